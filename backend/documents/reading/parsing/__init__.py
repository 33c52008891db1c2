"""What runs in the child process: one file in, its pages out; light to import, and trusted by nobody."""
