"""Classes of yt-dlp's messages."""

import pickle

import pytest

from genre.acquisition.faults import FAULTS, FAULTS_BY_NAME, DownloadError, classify_error

#: Class: messages of yt-dlp, as seen.
MESSAGES = {
    "bot_check": [
        "[youtube] x: Sign in to confirm you’re not a bot. Use --cookies-from-browser",
        "confirm you're not a bot",
    ],
    "rate_limit": [
        "[youtube] x: Video unavailable. This content isn't available, try again later. The current session has been "
        "rate-limited by YouTube for up to an hour. It is recommended to use `-t sleep`",
        "Video unavailable. This content isn’t available, try again later.",
    ],
    "gone": [
        "[youtube] x: Video unavailable",
        "Video unavailable. This video is no longer available because the YouTube account associated with this video "
        "has been terminated.",
        "This video has been removed by the uploader",
        "This video has been removed for violating YouTube's policy on harassment",
        "Unable to download webpage: HTTP Error 404: Not Found",
    ],
    "private": ["Private video. Sign in if you've been granted access to this video"],
    "members": ["Join this channel to get access to members-only content like this video"],
    "geo": ["Video unavailable. The uploader has not made this video available in your country"],
    "age": ["Sign in to confirm your age. This video may be inappropriate for some users."],
    "copyright": ["Video unavailable. This video contains content from X, who has blocked it on copyright grounds"],
    "drm": ["This video is DRM protected"],
    "no_formats": ["Requested format is not available. Use --list-formats for a list of available formats"],
    "http_429": ["Unable to download API page: HTTP Error 429: Too Many Requests"],
    "http_403": ["unable to download video data: HTTP Error 403: Forbidden"],
    "http": ["HTTP Error 503: Service Unavailable"],
    "throttled": ["The download speed is below throttle limit"],
    "truncated": ["[download] Got error: 551272 bytes read, 551272 more expected"],
    "network": [
        "Read timed out. (read timeout=20.0)",
        "Got error: ('Connection broken: ConnectionResetError(104, 'Connection reset by peer')",
        "Failed to resolve 'www.youtube.com' ([Errno -2] Name or service not known)",
        "Remote end closed connection without response",
    ],
    "empty": ["The downloaded file is empty", "Did not get any data blocks"],
    "wrong_type": ["Unsupported URL: http://127.0.0.1/watch"],
    "disk": [
        "unable to open for writing: [Errno 13] Permission denied: 'media.wav.part'",
        "unable to write data: [Errno 28] No space left on device",
    ],
    "unknown": ["a message that yt-dlp does not have"],
}


@pytest.mark.parametrize(
    ("fault", "message"), [(fault, message) for fault, messages in MESSAGES.items() for message in messages]
)
def test_a_message_gets_its_class_in_any_case(fault, message):
    assert classify_error(message) == fault
    assert classify_error(message.upper()) == fault


def test_faults_of_the_session_come_before_permanent_ones():
    kinds = [fault.kind for fault in FAULTS]
    assert kinds.index("permanent") > max(n for n, kind in enumerate(kinds) if kind == "session")
    assert {f.name for f in FAULTS if f.kind == "session"} == {"bot_check", "rate_limit"}


def test_an_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(DownloadError("geo", "not here")))
    assert (error.fault, str(error)) == (FAULTS_BY_NAME["geo"], "not here")
