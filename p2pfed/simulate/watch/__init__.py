"""What is held against a simulated federation while it runs: each module looks at one promise."""
