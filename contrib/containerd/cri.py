"""cri.py METHOD [FIELD=VALUE...] [.FIELD...]: a small client of the Container Runtime Interface, for check-cri.

Debian 12 has no crictl, but it has gRPC (python3-grpcio). METHOD is the interface's own name of a call, VALUE is JSON
or a string, .FIELD is what to print of the response; else it all is, as JSON. What kubelet makes of the calls:

    create POD POD_CONFIG CONFIG CMD...   a container of that pod; its id
    wait ID                               until it has ended: its exit code
    run POD POD_CONFIG CONFIG CMD...      create, start, wait; its output, from its log, and its exit code; remove
    exec [timeout=SECONDS] ID CMD...      its output, and its exit code

CONTAINER_RUNTIME_ENDPOINT is the socket's path.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from oci import varint

PATIENCE = 60 * int(os.environ.get("SLOW", "1"))  # seconds after which a call has failed

Message = dict[str, Any]

# The messages of runtime.v1, as far as steps use them: NAME=NUMBER is a string, NAME=NUMBER:TYPE another type; `*` says
# that it is repeated, `?` that it is wrapped in a message, so as to tell 0 from nothing.
MESSAGES = {
    "VersionRequest": "",
    "VersionResponse": "version=1 runtime_name=2 runtime_version=3 runtime_api_version=4",
    "StatusRequest": "",
    "StatusResponse": "status=1:RuntimeStatus",
    "RuntimeStatus": "conditions=1:RuntimeCondition*",
    "RuntimeCondition": "type=1 status=2:bool reason=3 message=4",
    "ImageStatusRequest": "image=1:ImageSpec",
    "ImageStatusResponse": "image=1:Image",
    "ImageSpec": "image=1",
    "Image": "id=1 repo_tags=2:string* size=4:int",
    # pods
    "RunPodSandboxRequest": "config=1:PodSandboxConfig runtime_handler=2",
    "RunPodSandboxResponse": "pod_sandbox_id=1",
    "PodSandboxConfig": (
        "metadata=1:PodSandboxMetadata hostname=2 log_directory=3 dns_config=4:DNSConfig labels=6:map annotations=7:map"
        " linux=8:LinuxPodSandboxConfig"
    ),
    "PodSandboxMetadata": "name=1 uid=2 namespace=3 attempt=4:int",
    "DNSConfig": "servers=1:string* searches=2:string* options=3:string*",
    "LinuxPodSandboxConfig": "cgroup_parent=1 security_context=2:LinuxSandboxSecurityContext sysctls=3:map",
    "LinuxSandboxSecurityContext": (
        "namespace_options=1:NamespaceOption run_as_user=3:int? readonly_rootfs=4:bool supplemental_groups=5:int*"
        " privileged=6:bool run_as_group=8:int? seccomp=9:SecurityProfile"
    ),
    "NamespaceOption": "network=1:NamespaceMode pid=2:NamespaceMode ipc=3:NamespaceMode target_id=4",
    "SecurityProfile": "profile_type=1:ProfileType localhost_ref=2",
    "PodSandboxStatusRequest": "pod_sandbox_id=1",
    "PodSandboxStatusResponse": "status=1:PodSandboxStatus",
    "PodSandboxStatus": "id=1 metadata=2:PodSandboxMetadata state=3:PodSandboxState network=5:PodSandboxNetworkStatus"
    " runtime_handler=9",
    "PodSandboxNetworkStatus": "ip=1",
    "ListPodSandboxRequest": "",
    "ListPodSandboxResponse": "items=1:PodSandbox*",
    "PodSandbox": "id=1 metadata=2:PodSandboxMetadata state=3:PodSandboxState labels=5:map runtime_handler=7",
    "StopPodSandboxRequest": "pod_sandbox_id=1",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id=1",
    "RemovePodSandboxResponse": "",
    # containers
    "CreateContainerRequest": "pod_sandbox_id=1 config=2:ContainerConfig sandbox_config=3:PodSandboxConfig",
    "CreateContainerResponse": "container_id=1",
    "ContainerConfig": (
        "metadata=1:ContainerMetadata image=2:ImageSpec command=3:string* args=4:string* working_dir=5 envs=6:Pair*"
        " mounts=7:Mount* devices=8:Device* labels=9:map annotations=10:map log_path=11 stdin=12:bool"
        " stdin_once=13:bool tty=14:bool linux=15:LinuxContainerConfig"
    ),
    "ContainerMetadata": "name=1 attempt=2:int",
    "Pair": "key=1 value=2",
    "Mount": "container_path=1 host_path=2 readonly=3:bool propagation=5:MountPropagation",
    "Device": "container_path=1 host_path=2 permissions=3",
    "LinuxContainerConfig": "resources=1:LinuxContainerResources security_context=2:LinuxContainerSecurityContext",
    "LinuxContainerResources": (
        "cpu_period=1:int cpu_quota=2:int cpu_shares=3:int memory_limit_in_bytes=4:int oom_score_adj=5:int"
        " cpuset_cpus=6 unified=9:map"
    ),
    "LinuxContainerSecurityContext": (
        "capabilities=1:Capability privileged=2:bool namespace_options=3:NamespaceOption run_as_user=5:int?"
        " run_as_username=6 readonly_rootfs=7:bool supplemental_groups=8:int* no_new_privs=11:bool run_as_group=12:int?"
        " masked_paths=13:string* readonly_paths=14:string* seccomp=15:SecurityProfile"
    ),
    "Capability": "add_capabilities=1:string* drop_capabilities=2:string*",
    "StartContainerRequest": "container_id=1",
    "StartContainerResponse": "",
    "ContainerStatusRequest": "container_id=1",
    "ContainerStatusResponse": "status=1:ContainerStatus",
    "ContainerStatus": (
        "id=1 metadata=2:ContainerMetadata state=3:ContainerState exit_code=7:int reason=10 message=11 labels=12:map"
        " log_path=15"
    ),
    "ListContainersRequest": "filter=1:ContainerFilter",
    "ListContainersResponse": "containers=1:Container*",
    "ContainerFilter": "id=1 pod_sandbox_id=3",
    "Container": "id=1 pod_sandbox_id=2 metadata=3:ContainerMetadata state=6:ContainerState labels=8:map",
    "ExecSyncRequest": "container_id=1 cmd=2:string* timeout=3:int",
    "ExecSyncResponse": "stdout=1 stderr=2 exit_code=3:int",
    "ExecRequest": "container_id=1 cmd=2:string* tty=3:bool stdin=4:bool stdout=5:bool stderr=6:bool",
    "ExecResponse": "url=1",
    "AttachRequest": "container_id=1 stdin=2:bool tty=3:bool stdout=4:bool stderr=5:bool",
    "AttachResponse": "url=1",
    "PortForwardRequest": "pod_sandbox_id=1 port=2:int*",
    "PortForwardResponse": "url=1",
    "ReopenContainerLogRequest": "container_id=1",
    "ReopenContainerLogResponse": "",
    "UpdateContainerResourcesRequest": "container_id=1 linux=2:LinuxContainerResources",
    "UpdateContainerResourcesResponse": "",
    "StopContainerRequest": "container_id=1 timeout=2:int",
    "StopContainerResponse": "",
    "RemoveContainerRequest": "container_id=1",
    "RemoveContainerResponse": "",
    # statistics
    "ContainerStatsRequest": "container_id=1",
    "ContainerStatsResponse": "stats=1:ContainerStats",
    "ListContainerStatsRequest": "filter=1:StatsFilter",
    "ListContainerStatsResponse": "stats=1:ContainerStats*",
    "StatsFilter": "id=1 pod_sandbox_id=2",
    "ContainerStats": "attributes=1:ContainerAttributes cpu=2:CpuUsage memory=3:MemoryUsage",
    "ContainerAttributes": "id=1 metadata=2:ContainerMetadata",
    "CpuUsage": "timestamp=1:int usage_core_nano_seconds=2:int?",
    "MemoryUsage": "timestamp=1:int working_set_bytes=2:int?",
}
ENUMS = {
    "PodSandboxState": ("SANDBOX_READY", "SANDBOX_NOTREADY"),
    "ContainerState": ("CONTAINER_CREATED", "CONTAINER_RUNNING", "CONTAINER_EXITED", "CONTAINER_UNKNOWN"),
    "NamespaceMode": ("POD", "CONTAINER", "NODE", "TARGET"),
    "ProfileType": ("RuntimeDefault", "Unconfined", "Localhost"),
    "MountPropagation": ("PROPAGATION_PRIVATE", "PROPAGATION_HOST_TO_CONTAINER", "PROPAGATION_BIDIRECTIONAL"),
}
DEFAULTS = {"int": 0, "bool": False, "string": ""}


def fields_of(name: str) -> Iterator[tuple[str, int, str]]:
    """Yield (name, number, type) of every field of a message."""
    for word in MESSAGES[name].split():
        field, _, rest = word.partition("=")
        number, _, kind = rest.partition(":")
        yield field, int(number), kind or "string"


def encode(name: str, message: Message) -> bytes:
    """Return a message as bytes."""
    out, known = b"", {field: (number, kind) for field, number, kind in fields_of(name)}
    for field, value in message.items():
        if field not in known:
            raise SystemExit(f"{name} has no field {field}")
        out += encode_field(*known[field], value)
    return out


def encode_field(number: int, kind: str, value: Any) -> bytes:
    """Return a field as bytes. A default value is encoded, too, which protobuf allows."""
    if kind == "map":
        pairs = [{"key": key, "value": one} for key, one in value.items()]
        return encode_field(number, "Pair*", pairs)
    if kind.endswith("*"):
        return b"".join(encode_field(number, kind[:-1], one) for one in value)
    if kind in DEFAULTS.keys() - {"string"} or kind in ENUMS:
        value = ENUMS[kind].index(value) if kind in ENUMS else int(value)
        return varint.encode(number << 3) + varint.encode(value & (1 << 64) - 1)  # a negative one has 64 bits
    if kind.endswith("?"):
        data = encode_field(1, kind[:-1], value)
    else:
        data = value.encode() if kind == "string" else encode(kind, value)
    return varint.encode(number << 3 | 2) + varint.encode(len(data)) + data


def take_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, raw value) of the fields of a message; values are integers or bytes."""
    position = 0
    while position < len(data):
        tag, position = varint.decode(data, position)
        if tag & 7 == 0:
            value, position = varint.decode(data, position)
            yield tag >> 3, value
        else:
            size, position = varint.decode(data, position) if tag & 7 == 2 else (8 if tag & 7 == 1 else 4, position)
            yield tag >> 3, data[position : position + size]
            position += size


def decode(name: str, data: bytes) -> Message:
    """Return a message from bytes. A missing field gets its default, and an unknown one is left out."""
    message = {field: default(kind) for field, _, kind in fields_of(name)}
    known = {number: (field, kind) for field, number, kind in fields_of(name)}
    for number, raw in take_fields(data):
        field, kind = known.get(number, ("", ""))
        if kind == "map":
            pair = decode("Pair", raw)
            message[field][pair["key"]] = pair["value"]
        elif kind.endswith("*"):
            message[field].append(decode_field(kind[:-1], raw))
        elif kind:
            message[field] = decode_field(kind, raw)
    return message


def default(kind: str) -> Any:
    """Return the value of a missing field."""
    if kind in ENUMS:
        return ENUMS[kind][0]
    return [] if kind.endswith("*") else {} if kind == "map" else DEFAULTS.get(kind)


def decode_field(kind: str, raw: Any) -> Any:
    """Return the value of a field that is not repeated."""
    if kind.endswith("?"):
        return next((decode_field(kind[:-1], value) for _, value in take_fields(raw)), DEFAULTS[kind[:-1]])
    if kind == "string":
        return raw.decode(errors="replace")
    if kind in ENUMS:
        return ENUMS[kind][raw]
    if kind in DEFAULTS:
        return bool(raw) if kind == "bool" else raw - (1 << 64 if raw >> 63 else 0)
    return decode(kind, raw)


class Client:
    """Call the two services of a socket."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel("unix:" + endpoint.removeprefix("unix://"))

    def call(self, method: str, **request: Any) -> Message:
        """Call a method and return the response."""
        service = "ImageService" if "Image" in method else "RuntimeService"
        stub = self.channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=lambda message: encode(method + "Request", message),
            response_deserializer=lambda data: decode(method + "Response", data),
        )
        response: Message = stub(request, timeout=PATIENCE)
        return response

    def create(self, pod: str, pod_config: Message, config: Message, command: list[str]) -> str:
        """Create a container and return its id."""
        name = "c" + os.urandom(4).hex()
        config = {"metadata": {"name": name}, "log_path": name + ".log", "command": command, **config}
        response = self.call("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=pod_config)
        return str(response["container_id"])

    def wait(self, container: str) -> Message:
        """Wait until a container has ended and return its status."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status: Message = self.call("ContainerStatus", container_id=container)["status"]
            if status["state"] == "CONTAINER_EXITED":
                return status
            time.sleep(0.02)
        raise SystemExit(f"{container} runs on after {PATIENCE} seconds")

    def run(self, pod: str, pod_config: Message, config: Message, command: list[str]) -> int:
        """Create, start, wait for and remove a container; return its exit code."""
        container = self.create(pod, pod_config, config, command)
        try:
            self.call("StartContainer", container_id=container)
            status = self.wait(container)
            print_log(Path(status["log_path"]))
            return int(status["exit_code"])
        finally:
            self.call("RemoveContainer", container_id=container)

    def exec(self, timeout: int, container: str, command: list[str]) -> int:
        """Run a command in a container, print its output, and return its exit code."""
        response = self.call("ExecSync", container_id=container, cmd=command, timeout=timeout)
        sys.stdout.write(response["stdout"])
        sys.stderr.write(response["stderr"])
        return int(response["exit_code"])


def print_log(path: Path) -> None:
    """Print a container's log to stdout and stderr. A line holds time, stream, F(ull) or P(artial), and text."""
    for line in path.read_text(errors="replace").splitlines():
        _, stream, tag, text = line.split(" ", 3)
        print(text, end="\n" if tag == "F" else "", file=sys.stderr if stream == "stderr" else sys.stdout)


def loads(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def show(response: Any, paths: list[str]) -> None:
    """Print the response, or some of its fields in one line."""
    values = [field_at(response, path) for path in paths or ["."]]
    print(*[value if isinstance(value, str) else json.dumps(value) for value in values])


def field_at(value: Any, path: str) -> Any:
    """Return the value at the path .FIELD.NUMBER.FIELD. Raises SystemExit if there is none."""
    try:
        for name in filter(None, path.split(".")):
            value = value[int(name) if isinstance(value, list) else name]
    except (LookupError, TypeError):
        raise SystemExit(f"the response has no {path}") from None
    return value


def main(command: str, *words: str) -> int:
    """Make one call; return the exit code."""
    client = Client(os.environ["CONTAINER_RUNTIME_ENDPOINT"])
    if command == "create":
        print(client.create(words[0], json.loads(words[1]), json.loads(words[2]), [*words[3:]]))
    elif command == "run":
        return client.run(words[0], json.loads(words[1]), json.loads(words[2]), [*words[3:]])
    elif command == "wait":
        print(client.wait(words[0])["exit_code"])
    elif command == "exec":
        timeout = words[0].removeprefix("timeout=")
        rest = [*words[timeout != words[0] :]]
        return client.exec(int(timeout) if timeout != words[0] else 0, rest[0], rest[1:])
    else:
        request = dict(word.split("=", 1) for word in words if not word.startswith("."))
        response = client.call(command, **{field: loads(value) for field, value in request.items()})
        show(response, [word for word in words if word.startswith(".")])
    return 0


def start() -> NoReturn:
    """Run main; print the error of a failed call in one line."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    start()
