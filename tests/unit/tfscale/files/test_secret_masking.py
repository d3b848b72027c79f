from __future__ import annotations

import time
from typing import Any

import pytest

from tfscale.files.secret_masking import (
    is_secret,
    masked,
    masked_arguments,
    masked_command,
    masked_text,
)


@pytest.mark.parametrize(
    "name",
    [
        "password", "db_password", "PGPASSWORD_2", "passwd", "user-passphrase", "secret",
        "client_secret", "clientSecret", "token", "hf_token", "HF_TOKEN", "access_tokens", "key",
        "api_key", "apikey", "apiKey", "AWS_SECRET_ACCESS_KEY", "wandb_keys", "private.key",
        "credentials", "google-credential", "X-Amz-Signature", "sig", "auth", "authToken",
        "pass", "db_pass", "X-Api-Key",
    ],
)  # fmt: skip
def test_the_value_of_such_a_name_is_a_secret(name: str) -> None:
    assert is_secret(name, "abc")
    assert not is_secret(name, True)
    assert not is_secret(name, "false")
    assert not is_secret(name, None)
    assert not is_secret(name, "")  # not set


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keypoints", "17 of them"), ("monkey", "abc"), ("keyboard", "qwerty"), ("tokenizer", "b"),
        ("detokenize", "yes please"), ("key_dim", 64), ("key_dim", "64"), ("max_tokens", 512),
        ("tokens", 1.5e9), ("tokens", "train.txt"), ("keys", "image,label"), ("num_keys", "1e3"),
        ("image_key", "image"), ("label_key", "label"), ("eos_token", "<eos>"), ("author", "me"),
        ("pad_token", "[PAD]"), ("public_key", "ssh-rsa"), ("key_mask", "causal"), ("token", 3),
        ("secretary", "me"), ("compass", "north"), ("use_auth_token", "true"), ("key", -0.5),
        ("pass", 2), ("first_pass", "coarse"), ("num_passes", "many"),
    ],
)  # fmt: skip
def test_machine_learning_terms_and_numbers_are_not_secrets(name: str, value: Any) -> None:
    assert not is_secret(name, value)


def test_a_password_may_consist_of_digits() -> None:
    assert is_secret("password", "1234")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:word@host/path", "https://***@host/path"),
        ("https://me:w@rd@host/path", "https://***@host/path"),
        ("s3://id:a/b+c@bucket/x", "s3://***@bucket/x"),
        ("https://ghp_abc@github.com/a", "https://***@github.com/a"),
        ("https://a:b@c,https://d:e@f", "https://***@c,https://***@f"),
        ("gs://b/o?access_token=abc&alt=media", "gs://b/o?access_token=***&alt=media"),
        ("https://h/p?key=abc", "https://h/p?key=***"),
        ("--url=https://h/?sig=abc&x=1", "--url=https://h/?sig=***&x=1"),
        ("url='https://h/?password=abc'", "url='https://h/?password=***'"),
        ("?sv=1&sig=a%2Fb&se=2", "?sv=1&sig=***&se=2"),
        ("unknown arguments: --api_key=abc def", "unknown arguments: --api_key=*** def"),
        ("Received: hf_token='a b'. Leave", "Received: hf_token='***'. Leave"),
        ('{"client_secret": "a b", "n": 1}', '{"client_secret": "***", "n": 1}'),
        ("{'token': 'abc'}", "{'token': '***'}"),
        ("Authorization: Bearer abc.def-012", "Authorization: Bearer ***"),
        ("endpoint=https://me:word@host", "endpoint=https://***@host"),
        ("--pass=abc --pass=2", "--pass=*** --pass=2"),
        ("curl -H 'X-Api-Key: abc' failed", "curl -H 'X-Api-Key: ***' failed"),
        (
            "headers: Private-Token:abc, Accept-Encoding: gzip",
            "headers: Private-Token:***, Accept-Encoding: gzip",
        ),
    ],
)
def test_secrets_in_free_text_are_masked(text: str, shown: str) -> None:
    assert masked_text(text) == shown
    assert masked_text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/image@2x.png",
        "gs://bucket/image@2x.png",
        "grpc://10.0.0.1:8470",
        "127.0.0.1:2222",
        "me@example.org",
        "file:///home/me@work/x",
        "`--flags` must be key=value.",
        "`key`: the column that rows are joined by",
        "tokenizer=bert keypoints=17 monkey=abc --eos_token=<eos> --key_dim=64 max_tokens=512",
        "`keep` must be a positive number, or None. Received: keep=0. Leave it out.",
        "KeyError: 'loss'",
        "Max-Tokens: many of them",
        "first pass: done; pass=later",
    ],
)
def test_free_text_without_a_secret_is_unchanged(text: str) -> None:
    assert masked_text(text) == text


@pytest.mark.parametrize(
    "part", ["a.", "a-", "token=", "token=.", "://", "a:b", "=", "'", '"a":', "bearer ", "--", "@"]
)
def test_a_text_made_to_be_slow_is_masked_fast(part: str) -> None:
    began = time.process_time()
    masked_text(part * 50_000)
    masked_text("token=" + part * 50_000)
    masked_text("http://a:b" + part * 50_000)
    assert time.process_time() - began < 5


def test_values_are_masked_at_any_depth() -> None:
    given = {
        "data_dir": "s3://me:word@bucket",
        "service": {"api_key": "abc", "port": 80, "tokens": ["a"]},
        "credentials": {"user": "me", "attempts": 3},
        "learning_rate": 0.1,
        "tpu": None,
        "urls": ["https://h?token=abc", "https://h"],
    }
    assert masked(given) == {
        "data_dir": "s3://***@bucket",
        "service": {"api_key": "***", "port": 80, "tokens": ["a"]},
        "credentials": {"user": "***", "attempts": "***"},
        "learning_rate": 0.1,
        "tpu": None,
        "urls": ["https://h?token=***", "https://h"],
    }
    assert given["service"]["api_key"] == "abc"  # type: ignore[index]


def test_arguments_are_masked_with_an_equals_sign_and_without() -> None:
    given = ["train.py", "--password", "a b", "--token=--x", "-key", "abc", "--api_key", "--seed=1"]
    shown = masked_arguments(given)
    assert shown == ["train.py", "--password", "***", "--token=***", "-key", "***", *given[-2:]]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--header", "X-Api-Key: a b"], ["--header", "X-Api-Key: ***"]),
        (["-H", "Authorization: Token abc"], ["-H", "Authorization: ***"]),
        (["-H", "Accept: text/html"], ["-H", "Accept: text/html"]),
        (["--pass=abc", "--pass", "abc"], ["--pass=***", "--pass", "***"]),
        (["-p", "abc", "-p", "8080"], ["-p", "***", "-p", "8080"]),
        (["keys:build", "token:build"], ["keys:build", "token:build"]),
    ],
)
def test_headers_and_short_password_flags_are_masked(given: list[str], shown: list[str]) -> None:
    assert masked_arguments(given) == shown


def test_a_masked_header_stays_one_argument_of_its_command() -> None:
    assert masked_command("curl -H 'X-Api-Key: abc' host") == "curl -H 'X-Api-Key: ***' host"


def test_a_command_without_a_secret_is_unchanged() -> None:
    assert masked_command('sh  -c "echo $X"') == 'sh  -c "echo $X"'
    assert masked_command("python -m x '--password=a b' 'c d'") == (
        "python -m x --password=*** 'c d'"
    )
    assert masked_command("x --password='open") == "x --password=***"
