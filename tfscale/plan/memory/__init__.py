"""The memory of each device, planned without the devices."""
