"""Pictures and reports, made from the results of measurements."""
