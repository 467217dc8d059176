"""Pictures and pages: pure functions from numbers to SVG and HTML, shared by all reports."""
