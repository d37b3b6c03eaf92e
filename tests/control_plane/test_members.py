"""Members, roles, invitations, the audit log: what each may do to the others, and what is remembered of it."""

import itertools
from typing import Any

import httpx
import pytest

from tests.control_plane.running import PASSWORD, ControlPlane, Mailbox, Person, Tenant, join, sign_up
from tests.control_plane.test_people import fresh_email

_numbers = itertools.count(1)


def entries(person: Person, action: str = "") -> list[dict[str, Any]]:
    answer = person.http.get("/v1/audit", params={"action": action})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_only_owners_make_and_unmake_owners(owner: Person) -> None:
    admin = join(owner, fresh_email(), "admin")
    viewer = join(owner, fresh_email(), "viewer")
    key = admin.http.post("/v1/keys", json={"scopes": ["admin"]}).json()["token"]
    with owner.control_plane.client(key) as program:
        for client in (admin.http, program):
            assert client.patch(f"/v1/members/{owner.member_id()}", json={"role": "viewer"}).status_code == 403
            assert client.patch(f"/v1/members/{viewer.member_id()}", json={"role": "owner"}).status_code == 403
            assert client.delete(f"/v1/members/{owner.member_id()}").status_code == 403
            invitation = {"email": fresh_email(), "role": "owner"}
            assert client.post("/v1/invitations", json=invitation).status_code == 403
    made = owner.http.patch(f"/v1/members/{viewer.member_id()}", json={"role": "owner"})
    assert made.json()["role"] == "owner"
    assert viewer.http.get("/v1/tenant").json()["caller"]["role"] == "owner"  # at once, in the same session


def test_one_owner_always_remains(owner: Person) -> None:
    own = f"/v1/members/{owner.member_id()}"
    assert owner.http.patch(own, json={"role": "viewer"}).status_code == 409
    assert owner.http.delete(own).status_code == 409
    second = join(owner, fresh_email(), "admin")
    owner.http.patch(f"/v1/members/{second.member_id()}", json={"role": "owner"})
    assert owner.http.delete(own).status_code == 204
    assert owner.http.get("/v1/tenant").status_code == 404
    assert owner.http.get("/v1/person").json()["tenants"] == []
    assert second.http.get("/v1/tenant").status_code == 200


def test_one_may_always_leave_and_removes_nobody_else(owner: Person) -> None:
    viewer, other = (join(owner, fresh_email(), "viewer") for _ in range(2))
    assert viewer.http.delete(f"/v1/members/{other.member_id()}").status_code == 403
    assert viewer.http.delete(f"/v1/members/{viewer.member_id()}").status_code == 204
    assert viewer.http.get("/v1/tenant").status_code == 404
    assert entries(owner, "member.removed")[0]["actor"]["label"] == viewer.email


def test_a_key_has_no_scope_that_its_maker_has_not(owner: Person) -> None:
    developer = join(owner, fresh_email(), "developer")
    for scopes, status in ((["deploy", "invoke", "read"], 201), (["admin"], 403), (["read", "admin"], 403)):
        assert developer.http.post("/v1/keys", json={"scopes": scopes}).status_code == status
    admins = owner.http.post("/v1/keys", json={"scopes": ["admin"]}).json()["id"]
    assert developer.http.delete(f"/v1/keys/{admins}").status_code == 403
    assert owner.http.delete(f"/v1/keys/{admins}").status_code == 204


def test_an_invitation_is_for_its_address_and_works_once(owner: Person, control_plane: ControlPlane) -> None:
    email = fresh_email()
    first = owner.http.post("/v1/invitations", json={"email": email, "role": "viewer"}).json()
    old = Mailbox(control_plane).token(email)
    again = owner.http.post("/v1/invitations", json={"email": email.upper(), "role": "admin"})
    assert again.status_code == 201, again.text
    token = Mailbox(control_plane).token(email, 2)
    assert [each["id"] for each in owner.http.get("/v1/invitations").json()["items"]] == [again.json()["id"]]
    assert first["id"] != again.json()["id"]
    stranger = sign_up(control_plane, fresh_email(), f"inviting-{next(_numbers)}")
    with control_plane.client() as client:
        finish = {"token": token, "password": PASSWORD}
        assert client.post("/v1/invitations/finish", json={**finish, "token": old}).status_code == 404
        refused = stranger.http.post("/v1/invitations/accept", json={"token": token})
        assert refused.status_code == 403  # signed in as somebody else
        assert client.post("/v1/invitations/finish", json=finish).status_code == 201
        assert client.post("/v1/invitations/finish", json=finish).status_code == 404
    assert owner.http.post("/v1/invitations", json={"email": email, "role": "viewer"}).status_code == 409
    # Somebody who is signed up elsewhere accepts signed in, and nobody chooses a password for them.
    owner.http.post("/v1/invitations", json={"email": stranger.email, "role": "billing"})
    token = Mailbox(control_plane).token(stranger.email, 2)
    with control_plane.client() as client:
        hijack = {"token": token, "password": "a password of the thief"}
        assert client.post("/v1/invitations/finish", json=hijack).status_code == 409
    assert stranger.http.post("/v1/invitations/accept", json={"token": token}).json()["role"] == "billing"
    stranger.http.headers["Tailcut-Tenant"] = owner.http.headers["Tailcut-Tenant"]
    assert stranger.http.get("/v1/tenant").json()["caller"]["role"] == "billing"


def test_a_withdrawn_invitation_is_worth_nothing(owner: Person, control_plane: ControlPlane) -> None:
    email = fresh_email()
    invitation = owner.http.post("/v1/invitations", json={"email": email, "role": "viewer"}).json()["id"]
    token = Mailbox(control_plane).token(email)
    assert owner.http.delete(f"/v1/invitations/{invitation}").status_code == 204
    assert owner.http.delete(f"/v1/invitations/{invitation}").status_code == 404
    with control_plane.client() as client:
        body = {"token": token, "password": PASSWORD}
        assert client.post("/v1/invitations/finish", json=body).status_code == 404


def finish(control_plane: ControlPlane, token: str) -> httpx.Response:
    with control_plane.client() as client:
        return client.post("/v1/invitations/finish", json={"token": token, "password": PASSWORD})


@pytest.mark.parametrize("fate", ["stays", "removed", "demoted", "half demoted", "key revoked"])
def test_an_invitation_is_worth_what_its_inviter_may_still_grant(
    owner: Person, control_plane: ControlPlane, fate: str
) -> None:
    """Also one by way of which somebody removed would come back, under another address of his."""
    second = join(owner, fresh_email(), "admin")
    member = f"/v1/members/{second.member_id()}"
    owner.http.patch(member, json={"role": "owner"})
    key = second.http.post("/v1/keys", json={"scopes": ["admin"]}).json()
    invited = {role: fresh_email() for role in ("owner", "admin", "viewer")}
    with control_plane.client(key["token"]) as program:
        by_key = program.post("/v1/invitations", json={"email": fresh_email(), "role": "admin"}).json()["email"]
    for role, email in invited.items():
        assert second.http.post("/v1/invitations", json={"email": email, "role": role}).status_code == 201
    tokens = {email: Mailbox(control_plane).token(email) for email in (*invited.values(), by_key)}
    match fate:
        case "removed":
            assert owner.http.delete(member).status_code == 204
        case "demoted":
            owner.http.patch(member, json={"role": "developer"})
        case "half demoted":
            owner.http.patch(member, json={"role": "admin"})
        case "key revoked":
            assert owner.http.delete(f"/v1/keys/{key['id']}").status_code == 204
    lost = {"removed": {"owner", "admin", "viewer"}, "demoted": {"owner", "admin", "viewer"}, "half demoted": {"owner"}}
    listed = {each["email"] for each in owner.http.get("/v1/invitations").json()["items"]}
    for role, email in invited.items():
        is_lost = role in lost.get(fate, set())
        assert (email not in listed) == is_lost
        assert finish(control_plane, tokens[email]).status_code == (404 if is_lost else 201), role
    assert finish(control_plane, tokens[by_key]).status_code == (404 if fate == "key revoked" else 201)
    withdrawn = {each["subject"] for each in entries(owner, "invitation.withdrawn")}
    assert withdrawn == {invited[role] for role in lost.get(fate, set())}


def test_who_became_a_member_meanwhile_is_told_so(owner: Person, control_plane: ControlPlane) -> None:
    other = sign_up(control_plane, fresh_email(), f"meanwhile-{next(_numbers)}")
    owner.http.post("/v1/invitations", json={"email": other.email, "role": "viewer"})
    token = Mailbox(control_plane).token(other.email, 2)
    tenant = owner.http.get("/v1/tenant").json()["id"]
    with control_plane.client(control_plane.operator_token) as operator:
        link = operator.post(f"/v1/tenants/{tenant}/sign-in-links", json={"email": other.email})
    assert link.status_code == 201, link.text  # it makes an owner of whoever is no member
    assert other.http.post("/v1/invitations/accept", json={"token": token}).status_code == 409


def test_the_audit_log_says_who_what_and_from_where(owner: Person) -> None:
    admin = join(owner, fresh_email(), "admin")
    made = admin.http.post("/v1/keys", json={"scopes": ["read"], "name": "audited"})
    entry = entries(owner, "key.created")[0]
    assert entry["actor"]["label"] == admin.email
    assert entry["subject"] == "audited"
    assert entry["details"] == {"id": made.json()["id"], "scopes": ["read"]}
    assert entry["address"] == "127.0.0.1"
    assert entry["request_id"] == made.headers["Tailcut-Request-Id"]
    assert made.json()["token"] not in str(entries(owner))
    admin.http.delete(f"/v1/keys/{made.json()['id']}")
    owner.http.patch(f"/v1/members/{admin.member_id()}", json={"role": "viewer"})
    actions = [each["action"] for each in entries(owner)]
    assert actions[:2] == ["member.role-changed", "key.revoked"]  # the newest first
    assert {"tenant.created", "person.signed-in", "invitation.created", "invitation.accepted"} <= set(actions)
    assert entries(owner, "member")[0]["details"] == {"before": "admin", "after": "viewer"}
    by_admin = owner.http.get("/v1/audit", params={"actor": admin.email}).json()["items"]
    assert {each["actor"]["label"] for each in by_admin} == {admin.email}


def test_what_changes_nothing_is_not_in_the_audit_log(owner: Person) -> None:
    before = entries(owner)
    owner.http.get("/v1/keys")
    owner.http.patch(f"/v1/members/{owner.member_id()}", json={"role": "owner"})
    assert owner.http.post("/v1/keys", json={"scopes": []}).status_code == 422
    assert entries(owner) == before


def test_a_key_notes_when_it_was_used(tenant: Tenant) -> None:
    created = tenant.new_key("read")
    assert tenant.http.get(f"/v1/keys/{created['id']}").json()["last_used_at"] is None
    with tenant.control_plane.client(created["token"]) as client:
        client.get("/v1/functions")
        first = tenant.http.get(f"/v1/keys/{created['id']}").json()["last_used_at"]
        assert first is not None
        client.get("/v1/functions")  # not each use is a write
        assert tenant.http.get(f"/v1/keys/{created['id']}").json()["last_used_at"] == first


@pytest.mark.parametrize("role", ["king", "", None])
def test_roles_that_are_none(owner: Person, role: str | None) -> None:
    assert owner.http.post("/v1/invitations", json={"email": fresh_email(), "role": role}).status_code == 422
