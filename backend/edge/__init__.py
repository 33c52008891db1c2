"""What every HTTP request passes, how errors look when they leave, and the routes that report how the service is."""
