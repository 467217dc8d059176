"""The audit's report as JSON: ids in hex, times in ms, amounts as integers.

docs/reference/audit-report.md describes every field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from p2pfed.cli.ledger_verify import report_to_json
from p2pfed.core.audit import AuditReport, Finding
from p2pfed.core.constitution import Version


def audit_to_json(
    reports: Sequence[AuditReport], comparison: Sequence[Finding]
) -> dict[str, object]:
    """All reports, and what the ledgers say of each other."""
    return {
        "ledgers": [_report(report) for report in reports],
        "comparison": [finding_to_json(finding) for finding in comparison],
    }


def finding_to_json(finding: Finding) -> dict[str, object]:
    """One finding."""
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "where": finding.where,
        "centre": finding.centre,
        "job": None if finding.job is None else str(finding.job),
        "time_ms": finding.time_ms,
        "text": finding.text,
    }


def _report(report: AuditReport) -> dict[str, object]:
    severity = report.severity
    return {
        "source": report.source,
        "severity": None if severity is None else severity.value,
        **report_to_json(report.ledger),
        "findings": [finding_to_json(finding) for finding in report.ledger.findings],
        "by_centre": [
            {"centre": centre, "code": code, "count": count}
            for (centre, code), count in sorted(report.by_centre.items())
        ],
        "claims": [
            {"home": home, **asdict(tally)} for home, tally in sorted(report.claims.items())
        ],
        "declines": [
            {"home": home, "host": host, "reason": reason, "count": count}
            for (home, host, reason), count in sorted(report.declines.items())
        ],
        **_accounts(report),
        "versions": [_version(version) for version in report.versions],
        "story": [
            {
                "time_ms": line.time_ms,
                "position": str(line.position),
                "record": line.kind,
                "detail": line.detail,
                "inert": line.inert,
            }
            for line in report.story
        ],
    }


def _accounts(report: AuditReport) -> dict[str, object]:
    return {
        "usage": [
            {"home": home, "host": host, "standing": standing.value, **asdict(sums)}
            for (home, host, standing), sums in sorted(
                report.trades.items(), key=lambda item: (*item[0][:2], item[0][2].value)
            )
        ],
        "days": [
            {
                "at_ms": line.at_ms,
                "centre": line.centre,
                "contribution": line.standing.contribution,
                "usage": line.standing.usage,
                "credit_line": line.standing.credit_line,
                "balance_ppm": line.balance_ppm,
            }
            for line in report.days
        ],
        "counters": [
            {
                "centre": key.writer,
                "resource_class": key.resource_class,
                "day": key.day,
                "contributed": counter.contributed,
                "consumed": counter.consumed,
            }
            for key, counter in report.counters.items()
        ],
        "totals": [
            {
                "centre": centre,
                "resource_class": resource_class,
                "delivered": delivered,
                "offered": offered,
                "consumed": consumed,
            }
            for centre, resource_class, delivered, offered, consumed in report.totals
        ],
    }


def _version(version: Version) -> dict[str, object]:
    return {
        "number": version.number,
        "rules_version": version.rules_version,
        "start_ms": version.start_ms,
        "members": list(version.members),
        "proposal": None if version.proposal_id is None else str(version.proposal_id),
        "adopt": None if version.adopt is None else str(version.adopt),
        "votes": [str(vote) for vote in version.votes],
    }
