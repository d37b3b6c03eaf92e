"""Signing up, in and out, passwords, the second factor, sessions: as a program does it, over REST."""

import base64
import hashlib
import hmac
import itertools
import statistics
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.control_plane.running import PASSWORD, ControlPlane, Mailbox, Person, log_in, sign_up

_numbers = itertools.count(1)


def fresh_email() -> str:
    return f"somebody-{next(_numbers)}-{time.monotonic_ns()}@example.com"


def totp(secret: str, at_s: float | None = None) -> str:
    """RFC 6238 once more, so that ours is not checked with itself."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int((time.time() if at_s is None else at_s) // 30)), hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


def enrol(person: Person) -> tuple[str, list[str]]:
    """→ the secret and the recovery codes. It uses up the code of the step before this one."""
    secret = person.http.post("/v1/person/second-factor").json()["secret"]
    answer = person.http.post("/v1/person/second-factor/confirm", json={"code": totp(secret, time.time() - 30)})
    assert answer.status_code == 200, answer.text
    return secret, answer.json()["recovery_codes"]


def test_signing_up(control_plane: ControlPlane) -> None:
    email = fresh_email()
    person = sign_up(control_plane, email.upper().replace("EXAMPLE", "example"), "a-new-tenant")
    about = person.http.get("/v1/person").json()
    assert about["email"] == email
    assert [(tenant["name"], tenant["role"]) for tenant in about["tenants"]] == [("a-new-tenant", "owner")]
    caller = person.http.get("/v1/tenant").json()["caller"]
    assert caller["role"] == "owner"
    assert "tenant.delete" in caller["permissions"]
    made = person.http.post("/v1/keys", json={"scopes": ["read"]})
    assert made.status_code == 201
    with control_plane.client(made.json()["token"]) as client:
        assert client.get("/v1/tenant").json()["name"] == "a-new-tenant"


def test_a_sign_up_link_works_once_and_only_with_a_good_password(control_plane: ControlPlane) -> None:
    email = fresh_email()
    with control_plane.client() as client:
        assert client.post("/v1/sign-up", json={"email": email, "tenant": "once-only"}).status_code == 202
        token = Mailbox(control_plane).token(email)
        for bad in ("short", "aaaaaaaaaaaaa", "password1234", email):
            answer = client.post("/v1/sign-up/finish", json={"token": token, "password": bad})
            assert answer.status_code == 422, bad
            assert answer.json()["errors"][0]["field"] == "password"
        finish = {"token": token, "password": PASSWORD}
        assert client.post("/v1/sign-up/finish", json=finish).status_code == 201
        assert client.post("/v1/sign-up/finish", json=finish).status_code == 404
        assert client.post("/v1/sign-up/finish", json={**finish, "token": "a" * 43}).status_code == 404
        taken = client.post("/v1/sign-up", json={"email": fresh_email(), "tenant": "once-only"})
        assert taken.status_code == 409


def test_many_take_the_same_name_at_once(control_plane: ControlPlane) -> None:
    """One gets it; the others are told, and none is answered 5xx."""
    name = f"wanted-{next(_numbers)}-{time.monotonic_ns()}"
    tokens = []
    with control_plane.client() as client:
        for email in [fresh_email() for _ in range(6)]:
            assert client.post("/v1/sign-up", json={"email": email, "tenant": name}).status_code == 202
            tokens.append(Mailbox(control_plane).token(email))

    def finish(token: str) -> int:
        with control_plane.client() as client:
            body = {"token": token, "password": PASSWORD}
            return client.post("/v1/sign-up/finish", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(finish, tokens))
    assert statuses == [201, 409, 409, 409, 409, 409]


def test_a_link_used_many_times_at_once_works_once(control_plane: ControlPlane) -> None:
    email = fresh_email()
    with control_plane.client() as client:
        client.post("/v1/sign-up", json={"email": email, "tenant": f"raced-{next(_numbers)}-{time.monotonic_ns()}"})
    token = Mailbox(control_plane).token(email)

    def finish(_: int) -> int:
        with control_plane.client() as client:
            body = {"token": token, "password": PASSWORD}
            return client.post("/v1/sign-up/finish", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(finish, range(6)))
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {404, 409}


def test_nothing_says_whether_an_address_is_known(control_plane: ControlPlane) -> None:
    person = sign_up(control_plane, fresh_email(), f"known-{next(_numbers)}-a")
    unknown = fresh_email()
    with control_plane.client() as client:
        for path, fields in (("/v1/password-resets", {}), ("/v1/sign-up", {"tenant": "not-taken-at-all"})):
            answers = [client.post(path, json={"email": email, **fields}) for email in (person.email, unknown)]
            assert answers[0].status_code == answers[1].status_code == 202
            assert answers[0].content == answers[1].content
    refusals = [log_in(control_plane, email, "a wrong password") for email in (person.email, unknown)]
    assert [answer.status_code for answer in refusals] == [401, 401]
    first, second = (answer.json() for answer in refusals)
    assert {**first, "request_id": ""} == {**second, "request_id": ""}
    # The owner of a known address is told what happened, in a mail of its own.
    assert "signed up already" in Mailbox(control_plane).newest(person.email, 3)["subject"]
    assert not [mail for mail in Mailbox(control_plane).mails(unknown) if "password" in mail["subject"]]


def test_a_log_in_takes_as_long_for_an_unknown_address(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var", TAILCUT_LOG_INS_PER_EMAIL_MAX=1000)
    try:
        person = sign_up(running, fresh_email(), "timed")
        took: dict[str, list[float]] = {person.email: [], fresh_email(): []}
        for _ in range(12):
            for email, times in took.items():
                began = time.perf_counter()
                assert log_in(running, email, "a wrong password").status_code == 401
                times.append(time.perf_counter() - began)
        known_s, unknown_s = (statistics.median(times) for times in took.values())
        # The hash alone is tens of milliseconds: left out, the ratio would be over five.
        assert 0.5 < known_s / unknown_s < 2.0
    finally:
        running.kill()


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    bounds = {"TAILCUT_LOG_INS_PER_EMAIL_MAX": 3, "TAILCUT_LOG_INS_PER_ADDRESS_MAX": 9}
    running = ControlPlane(tmp_path / "var", TAILCUT_FORWARDED_FOR_COUNT=1, **bounds)

    def from_address(address: str, email: str, **fields: str) -> int:
        with running.client() as client:
            body = {"email": email, "password": PASSWORD, **fields}
            return client.post("/v1/sessions", json=body, headers={"X-Forwarded-For": address}).status_code

    try:
        person = sign_up(running, fresh_email(), "guessed")
        for _ in range(2):
            assert log_in(running, person.email, "a wrong password").status_code == 401
        assert log_in(running, person.email).status_code == 201  # the control: and typing errors are forgiven
        for _ in range(3):
            assert log_in(running, person.email, "a wrong password").status_code == 401
        for password in ("a wrong password", PASSWORD):
            refused = log_in(running, person.email, password)
            assert refused.status_code == 429
            assert 0 < int(refused.headers["Retry-After"]) <= 900
            assert refused.json()["type"].endswith("/too-many-attempts")
        running.kill()
        running.restart()  # the count is not in the process
        assert log_in(running, person.email).status_code == 429
        statuses = [log_in(running, fresh_email(), "anything").status_code for _ in range(9)]
        assert statuses[0] == 401
        assert statuses[-1] == 429  # many addresses from one place
        # Codes, from many places, by somebody who knows the password.
        careful = sign_up(running, fresh_email(), "careful")
        secret, _ = enrol(careful)
        statuses = [from_address(f"203.0.113.{n}", careful.email, code="000000") for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert from_address("203.0.113.9", careful.email, code=totp(secret)) == 429
        assert from_address("203.0.113.10", careful.email) == 401  # the control: without a code it is no guess
        # Who has one address of IPv6 has very many of them.
        statuses = [from_address(f"2001:db8::{n:x}", fresh_email()) for n in range(10)]
        assert statuses == [401] * 9 + [429]
        assert from_address("2001:db8:0:1::1", fresh_email()) == 401
    finally:
        running.kill()


def test_mails_cannot_be_used_to_pester(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var", TAILCUT_MAILS_PER_EMAIL_MAX=2)
    try:
        email = fresh_email()
        with running.client() as client:
            statuses = [client.post("/v1/password-resets", json={"email": email}).status_code for _ in range(3)]
        assert statuses == [202, 202, 429]
    finally:
        running.kill()


def test_log_in_gives_a_session_of_its_own(control_plane: ControlPlane, owner: Person) -> None:
    first, second = (log_in(control_plane, owner.email).json() for _ in range(2))
    assert first["token"] != second["token"]
    sessions = owner.http.get("/v1/sessions").json()["items"]
    assert {first["id"], second["id"], owner.session_id} <= {each["id"] for each in sessions}
    assert [each["id"] for each in sessions if each["current"]] == [owner.session_id]
    assert first["token"] not in str(sessions)
    assert owner.http.delete(f"/v1/sessions/{first['id']}").status_code == 204
    with control_plane.client(first["token"]) as client:
        assert client.get("/v1/person").status_code == 401
    with control_plane.client(second["token"]) as client:
        assert client.delete("/v1/sessions/current").status_code == 204
        assert client.get("/v1/person").status_code == 401
    assert owner.http.get("/v1/person").status_code == 200


def test_sessions_end_by_themselves(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var", TAILCUT_SESSION_IDLE_TIMEOUT="PT1S")
    try:
        person = sign_up(running, fresh_email(), "idle")
        assert person.http.get("/v1/person").status_code == 200
        time.sleep(1.2)
        assert person.http.get("/v1/person").status_code == 401
    finally:
        running.kill()
    running = ControlPlane(tmp_path / "var2", TAILCUT_SESSION_LIFETIME="PT1S")
    try:
        person = sign_up(running, fresh_email(), "old")
        assert person.http.get("/v1/person").status_code == 200
        time.sleep(1.2)
        assert person.http.get("/v1/person").status_code == 401
    finally:
        running.kill()


def test_a_session_of_somebody_else_cannot_be_ended(owner: Person, control_plane: ControlPlane) -> None:
    other = sign_up(control_plane, fresh_email(), f"other-{next(_numbers)}-b")
    assert other.http.delete(f"/v1/sessions/{owner.session_id}").status_code == 404
    assert owner.http.get("/v1/person").status_code == 200


def test_a_reset_by_mail(control_plane: ControlPlane, owner: Person) -> None:
    with control_plane.client() as client:
        assert client.post("/v1/password-resets", json={"email": owner.email}).status_code == 202
        first = Mailbox(control_plane).token(owner.email, 2)
        assert client.post("/v1/password-resets", json={"email": owner.email}).status_code == 202
        token = Mailbox(control_plane).token(owner.email, 3)
        body = {"token": first, "password": "another fine password"}
        assert client.post("/v1/password-resets/finish", json=body).status_code == 404  # a newer one was asked for
        body["token"] = token
        assert client.post("/v1/password-resets/finish", json=body).status_code == 204
        assert client.post("/v1/password-resets/finish", json=body).status_code == 404
    assert owner.http.get("/v1/person").status_code == 401  # every session has ended
    assert log_in(control_plane, owner.email).status_code == 401
    assert log_in(control_plane, owner.email, "another fine password").status_code == 201
    assert "changed" in Mailbox(control_plane).newest(owner.email, 4)["subject"]


def test_a_reset_link_and_a_confirmation_expire(tmp_path: Path) -> None:
    short = {"TAILCUT_RESET_LINK_LIFETIME": "PT1S", "TAILCUT_CONFIRMATION_WINDOW": "PT1S"}
    running = ControlPlane(tmp_path / "var", TAILCUT_OPERATOR_SECOND_FACTOR="no", **short)
    try:
        person = sign_up(running, fresh_email(), "late")
        with running.client() as client:
            client.post("/v1/password-resets", json={"email": person.email})
            token = Mailbox(running).token(person.email, 2)
            time.sleep(1.2)
            body = {"token": token, "password": "another fine password"}
            assert client.post("/v1/password-resets/finish", json=body).status_code == 404
        # Operators, too, confirm before a change; they look without it.
        assert running.run("operator", "add", person.email).returncode == 0
        for path, change in (("/v1/keys", {"scopes": ["read"]}), ("/v1/tenants", {"name": "of-an-operator"})):
            refused = person.http.post(path, json=change)
            assert refused.json()["type"].endswith("/confirmation-required"), path
            assert person.http.get(path).status_code == 200
        assert log_in(running, person.email).status_code == 201
    finally:
        running.kill()


def test_changing_the_password_ends_the_other_sessions(control_plane: ControlPlane, owner: Person) -> None:
    other = log_in(control_plane, owner.email).json()["token"]
    wrong = {"current_password": "not this one", "password": "another fine password"}
    assert owner.http.put("/v1/person/password", json=wrong).status_code == 403
    right = {**wrong, "current_password": PASSWORD}
    assert owner.http.put("/v1/person/password", json=right).status_code == 204
    with control_plane.client(other) as client:
        assert client.get("/v1/person").status_code == 401
    assert owner.http.get("/v1/person").status_code == 200
    assert log_in(control_plane, owner.email, "another fine password").status_code == 201


def test_the_second_factor(control_plane: ControlPlane, owner: Person) -> None:
    begun = owner.http.post("/v1/person/second-factor").json()
    assert begun["uri"].startswith("otpauth://totp/Tailcut")
    assert begun["secret"] in begun["uri"]
    assert begun["qr_svg"].startswith("<svg")
    assert "viewBox" in begun["qr_svg"]  # else a page that sizes it would cut it off
    # Begun is not on.
    assert log_in(control_plane, owner.email).status_code == 201
    assert owner.http.post("/v1/person/second-factor/confirm", json={"code": "000000"}).status_code == 401
    secret, recovery_codes = enrol(owner)
    assert len(set(recovery_codes)) == 10
    refused = log_in(control_plane, owner.email)
    assert refused.status_code == 401
    assert refused.json()["type"].endswith("/second-factor-required")
    assert "second-factor" not in log_in(control_plane, owner.email, "a wrong password").text
    code = totp(secret)
    assert log_in(control_plane, owner.email, code=code).status_code == 201
    assert log_in(control_plane, owner.email, code=code).status_code == 401  # the same code again
    assert log_in(control_plane, owner.email, code=totp(secret, time.time() - 30)).status_code == 401  # an earlier one
    assert log_in(control_plane, owner.email, code=totp(secret, time.time() + 3600)).status_code == 401
    assert log_in(control_plane, owner.email, code=recovery_codes[0].upper()).status_code == 201
    assert log_in(control_plane, owner.email, code=recovery_codes[0]).status_code == 401
    assert owner.http.get("/v1/person").json()["recovery_codes_left"] == 9
    off = {"password": "a wrong password"}
    assert owner.http.post("/v1/person/second-factor/off", json=off).status_code == 403
    assert owner.http.post("/v1/person/second-factor/off", json={"password": PASSWORD}).status_code == 204
    assert log_in(control_plane, owner.email).status_code == 201


def test_the_test_vectors_of_rfc_6238() -> None:
    from control_plane.auth.totp import code_at

    secret = b"12345678901234567890"
    for at_s, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert code_at(secret, at_s // 30) == code


def test_what_is_in_the_database_lets_nobody_in(tmp_path: Path) -> None:
    """A copy of the database has neither passwords nor tokens nor second factors."""
    running = ControlPlane(tmp_path / "var")
    try:
        person = sign_up(running, fresh_email(), "copied")
        secret, recovery_codes = enrol(person)
        key = person.http.post("/v1/keys", json={"scopes": ["read"]}).json()["token"]
        with running.client() as client:
            client.post("/v1/password-resets", json={"email": person.email})
        reset = Mailbox(running).token(person.email, 3)
    finally:
        running.kill()
    files = list((tmp_path / "var" / "control-plane").glob("database.sqlite*"))
    content = b"".join(path.read_bytes() for path in files)
    assert person.email.encode() in content  # the control: it is the database
    raw = base64.b32decode(secret + "=" * (-len(secret) % 8))
    for text in (PASSWORD, person.token, key, reset, secret, *recovery_codes):
        assert text.encode() not in content, text[:8]
    assert raw not in content
    assert b"$argon2id$" in content


@pytest.mark.parametrize("email", ["", "nobody", "a@", "@b", "a b@example.com", "a@b\nBcc: c@d", "a@" + "b" * 300])
def test_addresses_that_are_none(control_plane: ControlPlane, email: str) -> None:
    with control_plane.client() as client:
        answer = client.post("/v1/sign-up", json={"email": email, "tenant": "whatever"})
    assert answer.status_code == 422


def test_passwords_are_in_no_log(control_plane: ControlPlane, owner: Person) -> None:
    log_in(control_plane, owner.email)
    log = control_plane.log.read_text()
    assert PASSWORD not in log
    assert owner.token not in log
    assert '"route": "/v1/sessions"' in log


def test_sign_up_can_be_closed(tmp_path: Path) -> None:
    running = ControlPlane(tmp_path / "var", TAILCUT_SIGN_UP_OPEN="false")
    try:
        answer = httpx.post(f"{running.url}/v1/sign-up", json={"email": fresh_email(), "tenant": "closed"})
        assert answer.status_code == 403
    finally:
        running.kill()
