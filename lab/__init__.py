"""A real Kubernetes cluster on one machine, to try remedies on before they meet yours."""
