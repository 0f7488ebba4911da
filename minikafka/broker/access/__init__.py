"""Who may do what, and who proves to be whom, as a broker knows it: caches, and the writes."""
