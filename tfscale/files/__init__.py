"""Writing files atomically, checking what exists, and masking secrets in output."""

from tfscale.files.output_files import reason, require_writable, whole_files
from tfscale.files.secret_masking import masked

__all__ = ["masked", "reason", "require_writable", "whole_files"]
