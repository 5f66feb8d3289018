"""What is measured: gridwatch itself and the plain build, each in a process of its own."""
