//! What the sign-in pages look up.

use crate::emulator::directory::Directory;

impl Directory {
    /// Whether any app registered this redirect URI, so that a browser may be sent there after signing out.
    pub(crate) fn has_redirect_uri(&self, uri: &str) -> bool {
        self.state.read().apps.values().any(|app| app.redirect(uri).is_some())
    }

    /// How people call a tenant: its first domain, or else its id.
    pub(crate) fn called(&self, tenant_id: &str) -> String {
        let state = self.state.read();
        let domain = state.tenants.get(tenant_id).and_then(|tenant| tenant.domains.first());
        domain.map_or(tenant_id, String::as_str).to_owned()
    }
}
