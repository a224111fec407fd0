"""kubelet.py LOGS CGROUP FILE...: print what kubelet tells the container runtime of the first pod in these manifests.

Lines: the handler of its RuntimeClass ("" without one), the pod's configuration and that of its first container, as
JSON of the Container Runtime Interface (`cri.py`). LOGS is the directory for logs, CGROUP the cgroup of the pods. Only
the fields that the manifests of this directory use are known.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
_SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}
_NAMESPACES = {"namespace_options": {"pid": "CONTAINER"}}  # the pod's are shared, apart from pids
_PERIOD = 100_000  # microseconds in which a container may use its cpu_quota


def quantity(text: str | int) -> float:
    """Return a number of Kubernetes: `500m` is 0.5, `64Mi` is 64 * 2**20."""
    text = str(text)
    if text.endswith("m"):
        return int(text[:-1]) / 1000
    for suffix, factor in _SUFFIXES.items():
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)


def resources_of(container: Object) -> Object:
    """Return the limits of a container: requests become CPU shares, limits a quota and a size."""
    resources = container.get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    found: Object = {"cpu_shares": max(2, int(quantity(requests.get("cpu", limits.get("cpu", 0))) * 1024))}
    if "cpu" in limits:
        found |= {"cpu_period": _PERIOD, "cpu_quota": int(quantity(limits["cpu"]) * _PERIOD)}
    if "memory" in limits:
        found["memory_limit_in_bytes"] = int(quantity(limits["memory"]))
    return found


def security_of(container: Object) -> Object:
    """Return the security context of a container."""
    given = container.get("securityContext", {})
    found: Object = {**_NAMESPACES, "no_new_privs": not given.get("allowPrivilegeEscalation", True)}
    for name, field in {"runAsUser": "run_as_user", "runAsGroup": "run_as_group"}.items():
        if name in given:
            found[field] = given[name]
    capabilities = given.get("capabilities", {})
    if capabilities:
        found["capabilities"] = {f"{word}_capabilities": capabilities.get(word, []) for word in ("add", "drop")}
    if "seccompProfile" in given:
        found["seccomp"] = {"profile_type": given["seccompProfile"]["type"]}
    return found


def container_config(container: Object) -> Object:
    """Return the configuration of a container."""
    return {
        "metadata": {"name": container["name"]},
        "image": {"image": container["image"]},
        "command": container.get("command", []),
        "args": container.get("args", []),
        "envs": [{"key": env["name"], "value": env["value"]} for env in container.get("env", [])],
        "log_path": f"{container['name']}.log",
        "linux": {"resources": resources_of(container), "security_context": security_of(container)},
    }


def pod_config(pod: Object, logs: str, cgroup: str) -> Object:
    """Return the configuration of a pod."""
    name = pod["metadata"]["name"]
    metadata = {"name": name, "uid": f"{name}-uid", "namespace": pod["metadata"].get("namespace", "default")}
    linux = {"cgroup_parent": cgroup, "security_context": _NAMESPACES}
    labels = pod["metadata"].get("labels", {})
    return {"metadata": metadata, "hostname": name, "log_directory": logs, "labels": labels, "linux": linux}


def main(logs: str, cgroup: str, *files: str) -> None:
    """Print the three lines."""
    objects = [each for file in files for each in yaml.safe_load_all(Path(file).read_text())]
    pod = next(each for each in objects if each["kind"] == "Pod")
    classes = {each["metadata"]["name"]: each["handler"] for each in objects if each["kind"] == "RuntimeClass"}
    wanted = pod["spec"].get("runtimeClassName")
    print(classes[wanted] if wanted else "")
    print(json.dumps(pod_config(pod, logs, cgroup)))
    print(json.dumps(container_config(pod["spec"]["containers"][0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
