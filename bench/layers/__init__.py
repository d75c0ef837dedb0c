"""Where the milliseconds and the agreement go: times and errors of a net's single layers."""
