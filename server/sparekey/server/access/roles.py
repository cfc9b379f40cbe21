"""The one table that says which role each RPC needs; an RPC that is not in it is refused."""

from __future__ import annotations

from collections.abc import Mapping

from sparekey.wire.callers import Role

ROLES: Mapping[str, Role] = {
    "/sparekey.v1.KeyService/AddKey": Role.OPERATOR,
    "/sparekey.v1.KeyService/GetKey": Role.VIEWER,
    "/sparekey.v1.KeyService/ListKeys": Role.VIEWER,
    "/sparekey.v1.KeyService/DeleteKey": Role.OPERATOR,
    "/sparekey.v1.KeyService/RefreshKeys": Role.OPERATOR,
    "/sparekey.v1.LicenseService/Activate": Role.OPERATOR,
    "/sparekey.v1.LicenseService/Renew": Role.OPERATOR,
    "/sparekey.v1.LicenseService/GetTask": Role.VIEWER,
    "/sparekey.v1.LicenseService/ListTasks": Role.VIEWER,
    "/sparekey.v1.LicenseService/ListOutcomes": Role.VIEWER,
    "/sparekey.v1.LicenseService/WatchTask": Role.VIEWER,
    "/sparekey.v1.LicenseService/CancelTask": Role.OPERATOR,
    "/sparekey.v1.LicenseService/RunTask": Role.OPERATOR,
    "/sparekey.v1.ReportService/GetKeyUsage": Role.VIEWER,
    "/sparekey.v1.ReportService/ListKeyHolders": Role.VIEWER,
    "/sparekey.v1.ReportService/ForecastCoverage": Role.VIEWER,
    "/sparekey.v1.ReportService/PlanRenewal": Role.VIEWER,
    "/sparekey.v1.ReportService/ExplainSvm": Role.VIEWER,
    "/sparekey.v1.FleetService/ListSvms": Role.VIEWER,
    "/sparekey.v1.FleetService/GetSvm": Role.VIEWER,
    "/sparekey.v1.FleetService/WatchSvms": Role.VIEWER,
    "/sparekey.v1.FleetService/ExcludeSvm": Role.OPERATOR,
    "/sparekey.v1.FleetService/ForgetSvm": Role.OPERATOR,
    "/sparekey.v1.EventService/ListEvents": Role.VIEWER,
    "/sparekey.v1.EventService/WatchEvents": Role.VIEWER,
    "/sparekey.v1.AgentService/Connect": Role.AGENT,
    "/sparekey.v1.EnrollmentService/Enroll": Role.ANYONE,
    "/sparekey.v1.EnrollmentService/RenewCertificate": Role.AGENT,
    "/sparekey.v1.AccessService/CreateJoinToken": Role.ADMIN,
    "/sparekey.v1.AccessService/CreateToken": Role.ADMIN,
    "/sparekey.v1.AccessService/ListTokens": Role.ADMIN,
    "/sparekey.v1.AccessService/RevokeToken": Role.ADMIN,
    "/sparekey.v1.AccessService/ListCertificates": Role.ADMIN,
    "/sparekey.v1.AccessService/RevokeCertificate": Role.ADMIN,
    "/sparekey.v1.AccessService/BanSvm": Role.ADMIN,
    # Served by a test clock's server only.
    "/sparekey.testing.v1.ClockService/GetClock": Role.VIEWER,
    "/sparekey.testing.v1.ClockService/AdvanceClock": Role.ADMIN,
    "/sparekey.testing.v1.ClockService/SetClock": Role.ADMIN,
}
"""By full method name. gRPC's own health and reflection are for anyone and not in here."""

BY_CLUSTER = frozenset(
    {
        "/sparekey.v1.LicenseService/Activate",
        "/sparekey.v1.LicenseService/Renew",
        "/sparekey.v1.LicenseService/RunTask",
        "/sparekey.v1.LicenseService/CancelTask",
        "/sparekey.v1.FleetService/ExcludeSvm",
        "/sparekey.v1.FleetService/ForgetSvm",
    }
)
"""What a caller for some clusters may change; each of these asks `refuse_outside`."""
