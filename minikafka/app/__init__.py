"""The composition root: the one place where ports get their real parts."""
