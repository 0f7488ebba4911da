"""Topics, configurations, groups, jobs, nodes; watching the cluster."""
