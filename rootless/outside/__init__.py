"""Change a container from outside of its namespaces. Only the runtime can do it, because it is in the host's."""
