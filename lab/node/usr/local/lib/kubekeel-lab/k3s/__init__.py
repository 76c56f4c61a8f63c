"""Stand-in for K3s: one process that runs a node's real components, each as a process of its own."""
