"""The offline audit: does an exported ledger prove what it says, and what follows from it?"""

from p2pfed.core.audit.check import verify_ledger
from p2pfed.core.audit.report import Balance, Finding, Report, Severity

__all__ = ["Balance", "Finding", "Report", "Severity", "verify_ledger"]
