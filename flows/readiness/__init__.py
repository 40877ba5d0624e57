"""What a command needs around it: servers, folders, packages. Asked before it starts, and by ``flows.check``."""
