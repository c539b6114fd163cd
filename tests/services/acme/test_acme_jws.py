"""What the RFCs say of keys and signatures."""

from cryptography.hazmat.primitives.asymmetric import ec

from nearmile.services.acme.jws import b64, jwk, key_authorization


def test_base64_for_urls_without_padding() -> None:
    assert b64(bytes((3, 236, 255, 224, 193))) == "A-z_4ME", "RFC 7515 appendix C"


def test_numbers_keep_their_leading_zeros() -> None:
    for secret in range(1, 400):
        assert {
            len(value)
            for name, value in jwk(ec.derive_private_key(secret, ec.SECP256R1())).items()
            if name in "xy"
        } == {43}


def test_a_key_authorization_is_the_token_and_a_thumbprint() -> None:
    token, _, thumbprint = key_authorization("t", ec.generate_private_key(ec.SECP256R1())).partition(b".")
    assert token == b"t" and len(thumbprint) == 43
