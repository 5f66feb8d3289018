"""The Delta tables as the Delta library writes them: files that workers have written, committed once."""
