"""What every HTTP request passes through, how errors are rendered, and the routes that report the service's health."""
