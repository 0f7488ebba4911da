"""What is seen of a cluster, gathered for a screen, a page or a document."""
