"""How metrics of several replicas combine, and the logs of a step."""
