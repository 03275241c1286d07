package mxerr_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"stoa/matrix/mxerr"
)

// all lists every errcode of the specification, with the status that it has where the specification gives one.
//
// Spec: client-server-api#common-error-codes, client-server-api#other-error-codes
var all = []struct {
	err    *mxerr.Error
	code   string
	status int
}{
	{mxerr.LimitExceeded(time.Second), "M_LIMIT_EXCEEDED", 429},
	{mxerr.MissingToken(), "M_MISSING_TOKEN", 401},
	{mxerr.UnknownToken(true), "M_UNKNOWN_TOKEN", 401},
	{mxerr.UserLocked("text of %d", 1), "M_USER_LOCKED", 401},
	{mxerr.Unrecognized(), "M_UNRECOGNIZED", 404},
	{mxerr.UnrecognizedMethod(), "M_UNRECOGNIZED", 405},
	{mxerr.AppserviceLoginUnsupported("text of %d", 1), "M_APPSERVICE_LOGIN_UNSUPPORTED", 400},
	{mxerr.BadAlias("text of %d", 1), "M_BAD_ALIAS", 400},
	{mxerr.BadJSON("text of %d", 1), "M_BAD_JSON", 400},
	{mxerr.BadState("text of %d", 1), "M_BAD_STATE", 400},
	{mxerr.BadStatus("text of %d", 1), "M_BAD_STATUS", 502},
	{mxerr.CannotLeaveServerNoticeRoom("text of %d", 1), "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", 403},
	{mxerr.CannotOverwriteMedia("text of %d", 1), "M_CANNOT_OVERWRITE_MEDIA", 409},
	{mxerr.CaptchaInvalid("text of %d", 1), "M_CAPTCHA_INVALID", 401},
	{mxerr.CaptchaNeeded("text of %d", 1), "M_CAPTCHA_NEEDED", 401},
	{mxerr.ConnectionFailed("text of %d", 1), "M_CONNECTION_FAILED", 502},
	{mxerr.ConnectionTimeout("text of %d", 1), "M_CONNECTION_TIMEOUT", 504},
	{mxerr.DestinationRejected("text of %d", 1), "M_DESTINATION_REJECTED", 400},
	{mxerr.DuplicateAnnotation("text of %d", 1), "M_DUPLICATE_ANNOTATION", 400},
	{mxerr.EmailSendError("text of %d", 1), "M_EMAIL_SEND_ERROR", 400},
	{mxerr.Exclusive("text of %d", 1), "M_EXCLUSIVE", 400},
	{mxerr.Forbidden("text of %d", 1), "M_FORBIDDEN", 403},
	{mxerr.GuestAccessForbidden("text of %d", 1), "M_GUEST_ACCESS_FORBIDDEN", 403},
	{mxerr.IncompatibleRoomVersion("text of %d", 1), "M_INCOMPATIBLE_ROOM_VERSION", 400},
	{mxerr.InvalidAddress("text of %d", 1), "M_INVALID_ADDRESS", 400},
	{mxerr.InvalidEmail("text of %d", 1), "M_INVALID_EMAIL", 400},
	{mxerr.InvalidParam("text of %d", 1), "M_INVALID_PARAM", 400},
	{mxerr.InvalidPepper("text of %d", 1), "M_INVALID_PEPPER", 400},
	{mxerr.InvalidRoomState("text of %d", 1), "M_INVALID_ROOM_STATE", 400},
	{mxerr.InvalidSignature("text of %d", 1), "M_INVALID_SIGNATURE", 400},
	{mxerr.InvalidUsername("text of %d", 1), "M_INVALID_USERNAME", 400},
	{mxerr.InviteBlocked("text of %d", 1), "M_INVITE_BLOCKED", 403},
	{mxerr.KeyTooLarge("text of %d", 1), "M_KEY_TOO_LARGE", 400},
	{mxerr.MissingParam("text of %d", 1), "M_MISSING_PARAM", 400},
	{mxerr.MissingParams("text of %d", 1), "M_MISSING_PARAMS", 400},
	{mxerr.NotFound("text of %d", 1), "M_NOT_FOUND", 404},
	{mxerr.NotJSON("text of %d", 1), "M_NOT_JSON", 400},
	{mxerr.NotYetUploaded("text of %d", 1), "M_NOT_YET_UPLOADED", 504},
	{mxerr.NoValidSession("text of %d", 1), "M_NO_VALID_SESSION", 404},
	{mxerr.ProfileTooLarge("text of %d", 1), "M_PROFILE_TOO_LARGE", 400},
	{mxerr.ResourceLimitExceeded("text of %d", 1), "M_RESOURCE_LIMIT_EXCEEDED", 403},
	{mxerr.RoomInUse("text of %d", 1), "M_ROOM_IN_USE", 400},
	{mxerr.SendError("text of %d", 1), "M_SEND_ERROR", 400},
	{mxerr.ServerNotTrusted("text of %d", 1), "M_SERVER_NOT_TRUSTED", 400},
	{mxerr.SessionExpired("text of %d", 1), "M_SESSION_EXPIRED", 400},
	{mxerr.SessionNotValidated("text of %d", 1), "M_SESSION_NOT_VALIDATED", 400},
	{mxerr.TermsNotSigned("text of %d", 1), "M_TERMS_NOT_SIGNED", 403},
	{mxerr.ThreepidAuthFailed("text of %d", 1), "M_THREEPID_AUTH_FAILED", 403},
	{mxerr.ThreepidDenied("text of %d", 1), "M_THREEPID_DENIED", 403},
	{mxerr.ThreepidInUse("text of %d", 1), "M_THREEPID_IN_USE", 400},
	{mxerr.ThreepidMediumNotSupported("text of %d", 1), "M_THREEPID_MEDIUM_NOT_SUPPORTED", 400},
	{mxerr.ThreepidNotFound("text of %d", 1), "M_THREEPID_NOT_FOUND", 400},
	{mxerr.TokenIncorrect("text of %d", 1), "M_TOKEN_INCORRECT", 400},
	{mxerr.TooLarge("text of %d", 1), "M_TOO_LARGE", 413},
	{mxerr.UnableToAuthoriseJoin("text of %d", 1), "M_UNABLE_TO_AUTHORISE_JOIN", 400},
	{mxerr.UnableToGrantJoin("text of %d", 1), "M_UNABLE_TO_GRANT_JOIN", 400},
	{mxerr.Unauthorized("text of %d", 1), "M_UNAUTHORIZED", 401},
	{mxerr.Unknown("text of %d", 1), "M_UNKNOWN", 500},
	{mxerr.UnknownDevice("text of %d", 1), "M_UNKNOWN_DEVICE", 400},
	{mxerr.UnsupportedRoomVersion("text of %d", 1), "M_UNSUPPORTED_ROOM_VERSION", 400},
	{mxerr.URLNotSet("text of %d", 1), "M_URL_NOT_SET", 400},
	{mxerr.UserDeactivated("text of %d", 1), "M_USER_DEACTIVATED", 403},
	{mxerr.UserInUse("text of %d", 1), "M_USER_IN_USE", 400},
	{mxerr.UserLimitExceeded("text of %d", 1), "M_USER_LIMIT_EXCEEDED", 403},
	{mxerr.UserSuspended("text of %d", 1), "M_USER_SUSPENDED", 403},
	{mxerr.WeakPassword("text of %d", 1), "M_WEAK_PASSWORD", 400},
	{mxerr.WrongRoomKeysVersion("text of %d", 1), "M_WRONG_ROOM_KEYS_VERSION", 403},
	{mxerr.UnknownPos("text of %d", 1), "M_UNKNOWN_POS", 400},
}

func TestConstructorsGiveCodeStatusAndText(t *testing.T) {
	t.Parallel()
	for _, c := range all {
		if c.err.Code != c.code || c.err.Status != c.status || c.err.Message == "" || strings.Contains(c.err.Message, "%") {
			t.Errorf("%s: %d %s %q", c.code, c.err.Status, c.err.Code, c.err.Message)
		}
	}
}

func TestMarshalJSON(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  *mxerr.Error
		want string
	}{
		"writes errcode and error":       {mxerr.NotFound("No room %s", "!a:b"), `{"errcode":"M_NOT_FOUND","error":"No room !a:b"}`},
		"writes extra keys":              {mxerr.IncompatibleRoomVersion("No").With("room_version", "12"), `{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","error":"No","room_version":"12"}`},
		"writes soft_logout":             {mxerr.UnknownToken(true), `{"errcode":"M_UNKNOWN_TOKEN","error":"Unknown access token","soft_logout":true}`},
		"rounds the time to wait up":     {mxerr.LimitExceeded(1500 * time.Microsecond), `{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests","retry_after_ms":2}`},
		"leaves out no time to wait":     {mxerr.LimitExceeded(0), `{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests"}`},
		"never writes the cause":         {mxerr.Forbidden("No").Because(errors.New("secret")), `{"errcode":"M_FORBIDDEN","error":"No"}`},
		"keeps errcode against an extra": {mxerr.Forbidden("No").With("errcode", "M_OTHER"), `{"errcode":"M_FORBIDDEN","error":"No"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := json.Marshal(c.err); err != nil || string(got) != c.want {
				t.Fatalf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
}

func TestCopiesLeaveTheErrorAsItWas(t *testing.T) {
	t.Parallel()
	plain := mxerr.Forbidden("No").With("a", 1)
	other := plain.Because(io.EOF).With("b", 2).WithStatus(401)
	if plain.Cause != nil || len(plain.Extra) != 1 || plain.Status != 403 {
		t.Errorf("the error became %+v", plain)
	}
	if !errors.Is(other, io.EOF) || len(other.Extra) != 2 || other.Status != 401 {
		t.Errorf("the copy is %+v", other)
	}
}

func TestIsFindsErrcodesInChains(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("send: %w", mxerr.Forbidden("No").Because(io.EOF))
	if !mxerr.Is(err, mxerr.CodeForbidden) || mxerr.Is(err, mxerr.CodeNotFound) || mxerr.Is(io.EOF, mxerr.CodeForbidden) {
		t.Error("the errcode was not found, or another was")
	}
	if text := err.Error(); text != "send: M_FORBIDDEN: No (EOF)" {
		t.Errorf("the text for the log is %q", text)
	}
}
