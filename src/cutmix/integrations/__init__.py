"""One module for each library that cutmix works with; each needs that library."""
