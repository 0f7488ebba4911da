"""What commands share: options, output, the screen, the way to a cluster."""
