//! What an app may do on behalf of a user: what it lists, what the resource has, what was consented to.

use crate::support::*;
use entra_broker::emulator::{App, Emulator, Resource, User, sample};

const APP: &str = "cccccccc-0000-0000-0000-000000000003";

async fn ask_for(emulator: &Emulator, user: &str, password: &str, scope: &str) -> Answer {
    let form = [
        ("grant_type", "password"),
        ("client_id", APP),
        ("username", user),
        ("password", password),
        ("scope", scope),
    ];
    ask(emulator, post(TOKEN_PATH, &form)).await
}

fn with_app(app: App) -> Emulator {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    directory.add_resource(
        Resource::new("api://orders").scope("Orders.Read").scope("Orders.Write").admin_scope("Orders.All"),
    );
    directory.add_app(app.public());
    emulator
}

fn app() -> App {
    App::new(APP, sample::TENANT)
}

async fn as_alice(emulator: &Emulator, scope: &str) -> Answer {
    ask_for(emulator, "alice", "any", scope).await
}

#[tokio::test]
async fn default_means_what_the_registration_lists_and_what_was_consented_to() {
    let emulator = with_app(app().permissions("api://orders", ["Orders.Read"]));
    let directory = emulator.directory();
    let default = "api://orders/.default";
    as_alice(&emulator, default).await.is_entra_error(400, "invalid_grant", 65001);
    directory.consent(sample::TENANT, APP, sample::ALICE, "api://orders", &["Orders.Read"]);
    let answer = as_alice(&emulator, default).await;
    assert_eq!(answer.claims()["scp"], "Orders.Read");
    assert_eq!(answer.json()["scope"], "api://orders/Orders.Read api://orders/.default");
    directory.consent_for_all(sample::TENANT, APP, "api://orders", &["Orders.All"]);
    assert_eq!(as_alice(&emulator, default).await.claims()["scp"], "Orders.All Orders.Read");
}

#[tokio::test]
async fn an_app_that_lists_nothing_in_particular_gets_what_users_may_give() {
    let emulator = with_app(app());
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, APP, "api://orders", &["Orders.Read", "Orders.Write"]);
    let claims = as_alice(&emulator, "api://orders/.default").await.claims();
    assert_eq!(claims["scp"], "Orders.Read Orders.Write");
    directory.consent_for_all(sample::TENANT, APP, sample::STORAGE, &["user_impersonation"]);
    let claims = as_alice(&emulator, "https://storage.azure.com/.default").await.claims();
    assert_eq!(claims["scp"], "user_impersonation");
}

#[tokio::test]
async fn a_registration_that_lists_no_or_other_permissions_is_told_so() {
    let emulator = with_app(app().no_permissions());
    let answer = as_alice(&emulator, "api://orders/.default").await;
    answer.is_entra_error(400, "unauthorized_client", 650056);
    let emulator = with_app(app().permissions(sample::GRAPH, ["User.Read"]));
    let answer = as_alice(&emulator, "api://orders/.default").await;
    answer.is_entra_error(400, "invalid_resource", 650057);
}

#[tokio::test]
async fn a_permission_that_the_resource_does_not_have_is_no_permission() {
    let emulator = with_app(app());
    let answer = as_alice(&emulator, "api://orders/Orders.Raed").await;
    answer.is_entra_error(400, "invalid_client", 650053);
    // Of Graph's hundreds the sample lists none, so that each of them works.
    emulator.directory().consent_for_all(sample::TENANT, APP, sample::GRAPH, &["Files.ReadWrite"]);
    assert_eq!(as_alice(&emulator, "Files.ReadWrite").await.status, 200);
}

#[tokio::test]
async fn one_users_consent_is_not_anothers_and_the_administrators_is_everyones() {
    let emulator = with_app(app());
    let directory = emulator.directory();
    let scope = "api://orders/Orders.Read";
    directory.consent(sample::TENANT, APP, sample::ALICE, "api://orders", &["Orders.Read"]);
    assert_eq!(ask_for(&emulator, "alice", "any", scope).await.status, 200);
    ask_for(&emulator, "bob", "any", scope).await.is_entra_error(400, "invalid_grant", 65001);
    directory.consent_for_all(sample::TENANT, APP, "api://orders", &["Orders.Read"]);
    assert_eq!(ask_for(&emulator, "bob", "any", scope).await.status, 200);
    directory.withdraw_consent(sample::TENANT, APP);
    for user in ["alice", "bob"] {
        ask_for(&emulator, user, "any", scope).await.is_entra_error(400, "invalid_grant", 65001);
    }
}

#[tokio::test]
async fn a_resource_that_the_tenant_lacks_or_disabled_has_errors_of_its_own() {
    let emulator = with_app(app());
    let directory = emulator.directory();
    as_alice(&emulator, "api://nowhere/Read").await.is_entra_error(400, "invalid_resource", 500011);
    directory.add_resource(Resource::new("api://theirs").only_in([sample::OTHER_TENANT]));
    as_alice(&emulator, "api://theirs/Read").await.is_entra_error(400, "invalid_client", 650052);
    let form = with("scope", "api://theirs/.default");
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_resource", 500011);
    assert!(directory.set_resource_enabled("api://orders", false));
    let answer = as_alice(&emulator, "api://orders/Orders.Read").await;
    answer.is_entra_error(400, "invalid_resource", 50001);
    let form = with("scope", "api://orders/.default");
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_resource", 50001);
}

#[tokio::test]
async fn a_user_is_told_what_is_wrong_with_the_account() {
    let emulator = with_app(app().assignment_required());
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, APP, sample::GRAPH, &["User.Read"]);
    assert!(directory.add_user(User::new("dora@contoso.test").password("one")));
    assert!(!directory.add_user(User::new("dora@nowhere.test")));
    let as_dora = async |password| ask_for(&emulator, "dora@contoso.test", password, "User.Read").await;
    as_dora("two").await.is_entra_error(400, "invalid_grant", 50126);
    as_dora("one").await.is_entra_error(400, "invalid_grant", 50105);
    assert!(directory.assign(sample::TENANT, APP, "DORA@contoso.test"));
    assert_eq!(as_dora("one").await.status, 200);
    assert!(directory.set_password("dora@contoso.test", "two"));
    as_dora("one").await.is_entra_error(400, "invalid_grant", 50126);
    assert!(directory.unassign(sample::TENANT, APP, "dora@contoso.test"));
    as_dora("two").await.is_entra_error(400, "invalid_grant", 50105);
    let nobody = ask_for(&emulator, "nobody", "any", "User.Read").await;
    nobody.is_entra_error(400, "invalid_grant", 50034);
    let stranger = ask_for(&emulator, sample::CAROL, "any", "User.Read").await;
    stranger.is_entra_error(400, "invalid_grant", 50020);
}

#[tokio::test]
async fn many_groups_are_named_by_reference() {
    let emulator = with_app(app());
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, APP, sample::GRAPH, &["User.Read"]);
    let group = |n: usize| format!("dddddddd-0000-0000-0000-{n:012}");
    let user =
        |groups: usize| (0..groups).fold(User::new("erin@contoso.test"), |user, n| user.group(group(n)));
    directory.add_user(user(200));
    let few = ask_for(&emulator, "erin", "any", "User.Read").await.claims();
    assert_eq!(few["groups"].as_array().unwrap().len(), 200);
    directory.add_user(user(201));
    let many = ask_for(&emulator, "erin", "any", "User.Read").await.claims();
    assert!(many.get("groups").is_none());
    assert_eq!(many["_claim_names"]["groups"], "src1");
    assert!(many["_claim_sources"]["src1"]["endpoint"].as_str().unwrap().ends_with("/getMemberObjects"));
}

#[tokio::test]
async fn a_disabled_service_principal_and_another_cloud_are_told_apart() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    assert!(directory.set_service_principal_enabled(sample::TENANT, sample::SECRET_APP, false));
    let now = async || ask(&emulator, post(TOKEN_PATH, &good())).await;
    now().await.is_entra_error(400, "unauthorized_client", 70001);
    directory.add_app(
        App::new(sample::SECRET_APP, sample::TENANT).secret(sample::SECRET).cloud("microsoftonline.us"),
    );
    now().await.is_entra_error(400, "invalid_request", 900439);
    assert!(directory.set_tenant_cloud(sample::TENANT, "microsoftonline.us"));
    now().await.is_entra_error(400, "invalid_request", 90038);
}
