"""The middleware for every HTTP request, the rendering of errors, and the routes that report the service's health."""
