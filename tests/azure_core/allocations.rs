//! What a hit through the SDK's trait allocates: a binary of its own, since the counter sees all of a process.

#![expect(clippy::print_stdout, reason = "it says what it counted")]

use std::{alloc::System, process::ExitCode, sync::Arc};

use azure_core::{
    credentials::{TokenCredential, TokenRequestOptions},
    http::{ClientMethodOptions, Context},
};
use entra_broker::{AzureOptions, Broker, StaticToken, TenantId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VAULT: &str = "https://vault.azure.net/.default";
const TOKEN_LENGTH: usize = 1500;
const HITS: usize = 1000;

/// Beside the token: the future's box, and two scopes as one text.
const BESIDES: usize = 400;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let customer: TenantId = "fabrikam.test".parse()?;
    let builder = Broker::builder().allow_tenants([customer.clone()]);
    let broker = builder.build(StaticToken::new("e".repeat(TOKEN_LENGTH))?)?;
    let options = AzureOptions::new().tenant(customer);
    let context = Context::new().with_value(options.clone());
    let plain: Arc<dyn TokenCredential> = Arc::new(broker.clone());
    let bound = broker.azure_credential(options);
    let vault = [VAULT];
    let graph = ["https://graph.microsoft.com/User.Read", "https://graph.microsoft.com/Mail.Read"];
    let mut good = true;
    for (name, credential, scopes, context, most) in [
        ("one scope", &plain, &vault[..], None, 2),
        ("several scopes", &plain, &graph, None, 3),
        ("a tenant that is bound", &bound, &vault, None, 2),
        ("a tenant in the context", &plain, &vault, Some(&context), 2),
    ] {
        let (allocations, bytes) = runtime.block_on(per_hit(credential, scopes, context))?;
        let fits = allocations <= most as f64 && bytes <= (TOKEN_LENGTH + BESIDES) as f64;
        good &= fits;
        println!("{name}: {allocations} allocations, {bytes} bytes{}", if fits { "" } else { ": TOO MANY" });
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Allocations and bytes, on the one thread that there is.
async fn per_hit(
    credential: &Arc<dyn TokenCredential>,
    scopes: &[&str],
    context: Option<&Context<'_>>,
) -> azure_core::Result<(f64, f64)> {
    let options = || {
        let context = context?.to_borrowed();
        Some(TokenRequestOptions { method_options: ClientMethodOptions { context } })
    };
    // The first one fetches, the second one finds its way.
    for _ in 0..2 {
        credential.get_token(scopes, options()).await?;
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..HITS {
        credential.get_token(scopes, options()).await?;
    }
    let change = region.change();
    let each = |count: usize| count as f64 / HITS as f64;
    Ok((each(change.allocations + change.reallocations), each(change.bytes_allocated)))
}
