"""Programs of the demo that are real: an HTTP service and a job, which need Python and nothing else, and know nothing of Tango."""
