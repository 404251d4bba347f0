"""Running a model over signals of any length: windows, overlap-add, streams, devices, threads, engines."""
