"""What is kept of each request, and how the workers' parts add up."""
