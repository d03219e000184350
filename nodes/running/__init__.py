"""Work of the nodes when they run. Only functions of nodes import these modules, so that a host
starts without the network, and without what it needs."""
