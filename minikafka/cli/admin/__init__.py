"""Commands on topics, configurations, groups, nodes, jobs: what an administrator does."""
