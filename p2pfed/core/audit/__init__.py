"""The offline audit: does an exported ledger prove what it says, and what follows from it?"""

from p2pfed.core.audit.audit import audit_ledger
from p2pfed.core.audit.check import verify_ledger
from p2pfed.core.audit.findings import Finding, Findings, Focus, Severity
from p2pfed.core.audit.report import AuditReport, Balance, Report
from p2pfed.core.audit.source import FileSource, LedgerSource

__all__ = [
    "AuditReport",
    "Balance",
    "FileSource",
    "Finding",
    "Findings",
    "Focus",
    "LedgerSource",
    "Report",
    "Severity",
    "audit_ledger",
    "verify_ledger",
]
