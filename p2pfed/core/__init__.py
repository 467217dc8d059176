"""Values in, values out: everything a centre, a simulation and an auditor must compute alike."""
