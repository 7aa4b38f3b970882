"""One's own data, whole: labels of any kind found and read, split, and made into a project that trains."""
