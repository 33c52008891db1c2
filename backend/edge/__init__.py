"""What every HTTP request passes before a route sees it, and what errors look like when they leave."""
