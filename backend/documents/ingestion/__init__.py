"""What makes a document ready: its pages are read, cut into passages and indexed."""
