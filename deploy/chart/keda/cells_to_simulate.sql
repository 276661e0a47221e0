SELECT count(*) FROM run JOIN simulation USING (run_id) WHERE kind = 'simulated' AND status IN ('accepted', 'running')
