"""Stand-ins that only the virtual machine has."""
