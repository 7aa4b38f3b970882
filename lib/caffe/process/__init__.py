"""What belongs to the process, not to a net: mode and device, random numbers, precision, denormal numbers, ranks."""
