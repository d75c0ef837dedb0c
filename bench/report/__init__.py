"""report.html: everything that was measured, in one file that needs no server and no network."""
