//! Who is who in the cluster: an authority, the API server's certificate, the key of service accounts, and a token each.
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{API_SERVER, SERVICE_OF_API};
use crate::Result;

/// PEM texts, as the control plane reads them.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// The API server's certificate.
    pub server: String,
    /// Its key.
    pub server_key: String,
    /// What service accounts' tokens are signed with.
    pub accounts_key: String,
    /// What they are checked with.
    pub accounts_public: String,
}

impl Certificates {
    /// Makes them anew.
    pub fn new() -> Result<Certificates> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "lab authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);

        let names = [
            API_SERVER,
            SERVICE_OF_API,
            "127.0.0.1",
            "kubernetes",
            "kubernetes.default.svc",
        ];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let accounts = KeyPair::generate()?;
        Ok(Certificates {
            authority,
            server: params.signed_by(&key, &issuer)?.pem(),
            server_key: key.serialize_pem(),
            accounts_key: accounts.serialize_pem(),
            accounts_public: accounts.public_key_pem(),
        })
    }
}

/// The API server's `--token-auth-file` for these users and their groups; a token is `token-of-` and the user.
pub fn tokens(users: &[(String, &str)]) -> String {
    let rows = users.iter().enumerate();
    rows.map(|(uid, (user, group))| format!("{},{user},{uid},{group}\n", token(user)))
        .collect()
}

/// A client configuration for `user`, with the authority's certificate beside it as `ca.crt`.
pub fn kubeconfig(user: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters: [{{name: lab, cluster: {{server: \"https://{API_SERVER}:6443\", certificate-authority: ca.crt}}}}]\n\
         users: [{{name: user, user: {{token: {}}}}}]\n\
         contexts: [{{name: lab, context: {{cluster: lab, user: user}}}}]\n\
         current-context: lab\n",
        token(user)
    )
}

fn token(user: &str) -> String {
    format!("token-of-{}", user.replace(':', "-"))
}
