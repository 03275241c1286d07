package mxerr

import (
	"net/http"
	"time"
)

// LimitExceeded makes M_LIMIT_EXCEEDED (429): too many requests, try again after a time.
//
// Spec: client-server-api#rate-limiting
func LimitExceeded(retryAfter time.Duration) *Error {
	e := New(http.StatusTooManyRequests, CodeLimitExceeded, "Too many requests")
	e.RetryAfter = retryAfter
	return e
}

// MissingToken makes M_MISSING_TOKEN (401).
//
// Spec: client-server-api#using-access-tokens
func MissingToken() *Error {
	return New(http.StatusUnauthorized, CodeMissingToken, "Missing access token")
}

// UnknownToken makes M_UNKNOWN_TOKEN (401). Soft: the session goes on, the client may log in again with its device.
//
// Spec: client-server-api#soft-logout
func UnknownToken(soft bool) *Error {
	return New(http.StatusUnauthorized, CodeUnknownToken, "Unknown access token").With("soft_logout", soft)
}

// UserLocked makes M_USER_LOCKED (401, with soft_logout).
//
// Spec: client-server-api#account-locking
func UserLocked(format string, args ...any) *Error {
	return New(http.StatusUnauthorized, CodeUserLocked, format, args...).With("soft_logout", true)
}

// Unrecognized makes M_UNRECOGNIZED (404): the endpoint does not exist here.
//
// Spec: client-server-api#common-error-codes
func Unrecognized() *Error {
	return New(http.StatusNotFound, CodeUnrecognized, "Unrecognized request")
}

// UnrecognizedMethod makes M_UNRECOGNIZED (405): the endpoint exists, but not with this method.
//
// Spec: client-server-api#common-error-codes
func UnrecognizedMethod() *Error {
	return New(http.StatusMethodNotAllowed, CodeUnrecognized, "Unrecognized method")
}

// AppserviceLoginUnsupported makes M_APPSERVICE_LOGIN_UNSUPPORTED (400): the server has no legacy login that an application service could use.
func AppserviceLoginUnsupported(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeAppserviceLoginUnsupported, format, args...)
}

// BadAlias makes M_BAD_ALIAS (400): an alias of m.room.canonical_alias does not point to the room.
func BadAlias(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeBadAlias, format, args...)
}

// BadJSON makes M_BAD_JSON (400): valid JSON, but a key is missing or has a wrong value.
func BadJSON(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeBadJSON, format, args...)
}

// BadState makes M_BAD_STATE (400): the change of state can't be made, as in unbanning who is not banned.
func BadState(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeBadState, format, args...)
}

// BadStatus makes M_BAD_STATUS (502): the application service answered a ping with a status other than 200.
func BadStatus(format string, args ...any) *Error {
	return New(http.StatusBadGateway, CodeBadStatus, format, args...)
}

// CannotLeaveServerNoticeRoom makes M_CANNOT_LEAVE_SERVER_NOTICE_ROOM (403): the invite to the server notices room can't be rejected.
func CannotLeaveServerNoticeRoom(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeCannotLeaveServerNoticeRoom, format, args...)
}

// CannotOverwriteMedia makes M_CANNOT_OVERWRITE_MEDIA (409): the media ID has content already.
func CannotOverwriteMedia(format string, args ...any) *Error {
	return New(http.StatusConflict, CodeCannotOverwriteMedia, format, args...)
}

// CaptchaInvalid makes M_CAPTCHA_INVALID (401): the captcha does not match.
func CaptchaInvalid(format string, args ...any) *Error {
	return New(http.StatusUnauthorized, CodeCaptchaInvalid, format, args...)
}

// CaptchaNeeded makes M_CAPTCHA_NEEDED (401): a captcha is required.
func CaptchaNeeded(format string, args ...any) *Error {
	return New(http.StatusUnauthorized, CodeCaptchaNeeded, format, args...)
}

// ConnectionFailed makes M_CONNECTION_FAILED (502): the application service could not be reached.
func ConnectionFailed(format string, args ...any) *Error {
	return New(http.StatusBadGateway, CodeConnectionFailed, format, args...)
}

// ConnectionTimeout makes M_CONNECTION_TIMEOUT (504): the application service did not answer in time.
func ConnectionTimeout(format string, args ...any) *Error {
	return New(http.StatusGatewayTimeout, CodeConnectionTimeout, format, args...)
}

// DestinationRejected makes M_DESTINATION_REJECTED (400): no message can be delivered to the country or region (identity service).
func DestinationRejected(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeDestinationRejected, format, args...)
}

// DuplicateAnnotation makes M_DUPLICATE_ANNOTATION (400): the sender has annotated this event with this key already.
func DuplicateAnnotation(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeDuplicateAnnotation, format, args...)
}

// EmailSendError makes M_EMAIL_SEND_ERROR (400): a validation mail could not be sent (identity service).
func EmailSendError(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeEmailSendError, format, args...)
}

// Exclusive makes M_EXCLUSIVE (400): the name belongs to an application service, or is outside of the caller's namespaces.
func Exclusive(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeExclusive, format, args...)
}

// Forbidden makes M_FORBIDDEN (403): access is not permitted.
func Forbidden(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeForbidden, format, args...)
}

// GuestAccessForbidden makes M_GUEST_ACCESS_FORBIDDEN (403): guests are not permitted here.
func GuestAccessForbidden(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeGuestAccessForbidden, format, args...)
}

// IncompatibleRoomVersion makes M_INCOMPATIBLE_ROOM_VERSION (400): the room has a version that one side does not support; room_version says which.
func IncompatibleRoomVersion(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeIncompatibleRoomVersion, format, args...)
}

// InvalidAddress makes M_INVALID_ADDRESS (400): the third-party address is not valid (identity service).
func InvalidAddress(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidAddress, format, args...)
}

// InvalidEmail makes M_INVALID_EMAIL (400): the email address is not valid (identity service).
func InvalidEmail(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidEmail, format, args...)
}

// InvalidParam makes M_INVALID_PARAM (400): a parameter has a wrong value.
func InvalidParam(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidParam, format, args...)
}

// InvalidPepper makes M_INVALID_PEPPER (400): the lookup pepper is unknown (identity service).
func InvalidPepper(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidPepper, format, args...)
}

// InvalidRoomState makes M_INVALID_ROOM_STATE (400): the initial state given to createRoom is not valid.
func InvalidRoomState(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidRoomState, format, args...)
}

// InvalidSignature makes M_INVALID_SIGNATURE (400): an uploaded signature is not valid.
func InvalidSignature(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidSignature, format, args...)
}

// InvalidUsername makes M_INVALID_USERNAME (400): the user name is not valid.
func InvalidUsername(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeInvalidUsername, format, args...)
}

// InviteBlocked makes M_INVITE_BLOCKED (403): the user takes no invites from the sender.
func InviteBlocked(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeInviteBlocked, format, args...)
}

// KeyTooLarge makes M_KEY_TOO_LARGE (400): a profile key is longer than 255 bytes.
func KeyTooLarge(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeKeyTooLarge, format, args...)
}

// MissingParam makes M_MISSING_PARAM (400): a required parameter is missing.
func MissingParam(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeMissingParam, format, args...)
}

// MissingParams makes M_MISSING_PARAMS (400): required parameters are missing (identity service).
func MissingParams(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeMissingParams, format, args...)
}

// NotFound makes M_NOT_FOUND (404): nothing is there.
func NotFound(format string, args ...any) *Error {
	return New(http.StatusNotFound, CodeNotFound, format, args...)
}

// NotJSON makes M_NOT_JSON (400): the request is no valid JSON.
func NotJSON(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeNotJSON, format, args...)
}

// NotYetUploaded makes M_NOT_YET_UPLOADED (504): the media ID has no content yet.
func NotYetUploaded(format string, args ...any) *Error {
	return New(http.StatusGatewayTimeout, CodeNotYetUploaded, format, args...)
}

// NoValidSession makes M_NO_VALID_SESSION (404): no session fits the parameters.
func NoValidSession(format string, args ...any) *Error {
	return New(http.StatusNotFound, CodeNoValidSession, format, args...)
}

// ProfileTooLarge makes M_PROFILE_TOO_LARGE (400): the profile would be larger than 64 KiB.
func ProfileTooLarge(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeProfileTooLarge, format, args...)
}

// ResourceLimitExceeded makes M_RESOURCE_LIMIT_EXCEEDED (403): a limit of the server is reached; admin_contact says whom to ask.
func ResourceLimitExceeded(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeResourceLimitExceeded, format, args...)
}

// RoomInUse makes M_ROOM_IN_USE (400): the room alias is taken.
func RoomInUse(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeRoomInUse, format, args...)
}

// SendError makes M_SEND_ERROR (400): a notification could not be sent (identity service).
func SendError(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeSendError, format, args...)
}

// ServerNotTrusted makes M_SERVER_NOT_TRUSTED (400): the third-party server is not trusted.
func ServerNotTrusted(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeServerNotTrusted, format, args...)
}

// SessionExpired makes M_SESSION_EXPIRED (400): the session has expired.
func SessionExpired(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeSessionExpired, format, args...)
}

// SessionNotValidated makes M_SESSION_NOT_VALIDATED (400): the session has not been validated.
func SessionNotValidated(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeSessionNotValidated, format, args...)
}

// TermsNotSigned makes M_TERMS_NOT_SIGNED (403): terms must be accepted first.
func TermsNotSigned(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeTermsNotSigned, format, args...)
}

// ThreepidAuthFailed makes M_THREEPID_AUTH_FAILED (403): the third-party identifier could not be authenticated.
func ThreepidAuthFailed(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeThreepidAuthFailed, format, args...)
}

// ThreepidDenied makes M_THREEPID_DENIED (403): the third-party identifier is not permitted.
func ThreepidDenied(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeThreepidDenied, format, args...)
}

// ThreepidInUse makes M_THREEPID_IN_USE (400): the third-party identifier is taken.
func ThreepidInUse(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeThreepidInUse, format, args...)
}

// ThreepidMediumNotSupported makes M_THREEPID_MEDIUM_NOT_SUPPORTED (400): identifiers of this medium can't be added.
func ThreepidMediumNotSupported(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeThreepidMediumNotSupported, format, args...)
}

// ThreepidNotFound makes M_THREEPID_NOT_FOUND (400): the third-party identifier is not known.
func ThreepidNotFound(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeThreepidNotFound, format, args...)
}

// TokenIncorrect makes M_TOKEN_INCORRECT (400): the token that the user typed is wrong.
func TokenIncorrect(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeTokenIncorrect, format, args...)
}

// TooLarge makes M_TOO_LARGE (413): the request or a thing in it is too large.
func TooLarge(format string, args ...any) *Error {
	return New(http.StatusRequestEntityTooLarge, CodeTooLarge, format, args...)
}

// UnableToAuthoriseJoin makes M_UNABLE_TO_AUTHORISE_JOIN (400): the server can't check the conditions of a restricted room.
func UnableToAuthoriseJoin(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeUnableToAuthoriseJoin, format, args...)
}

// UnableToGrantJoin makes M_UNABLE_TO_GRANT_JOIN (400): another server should be asked to let the user into a restricted room.
func UnableToGrantJoin(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeUnableToGrantJoin, format, args...)
}

// Unauthorized makes M_UNAUTHORIZED (401): the request was not correctly authorised.
func Unauthorized(format string, args ...any) *Error {
	return New(http.StatusUnauthorized, CodeUnauthorized, format, args...)
}

// Unknown makes M_UNKNOWN (500): an error without a name of its own.
func Unknown(format string, args ...any) *Error {
	return New(http.StatusInternalServerError, CodeUnknown, format, args...)
}

// UnknownDevice makes M_UNKNOWN_DEVICE (400): the device does not belong to the user that the application service asserts.
func UnknownDevice(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeUnknownDevice, format, args...)
}

// UnsupportedRoomVersion makes M_UNSUPPORTED_ROOM_VERSION (400): the room version is not supported.
func UnsupportedRoomVersion(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeUnsupportedRoomVersion, format, args...)
}

// URLNotSet makes M_URL_NOT_SET (400): the application service has no URL.
func URLNotSet(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeURLNotSet, format, args...)
}

// UserDeactivated makes M_USER_DEACTIVATED (403): the account is deactivated.
func UserDeactivated(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeUserDeactivated, format, args...)
}

// UserInUse makes M_USER_IN_USE (400): the user name is taken.
func UserInUse(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeUserInUse, format, args...)
}

// UserLimitExceeded makes M_USER_LIMIT_EXCEEDED (403): a limit of the account is reached; info_uri says more.
func UserLimitExceeded(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeUserLimitExceeded, format, args...)
}

// UserSuspended makes M_USER_SUSPENDED (403): the account is suspended.
func UserSuspended(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeUserSuspended, format, args...)
}

// WeakPassword makes M_WEAK_PASSWORD (400): the password is too weak.
func WeakPassword(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeWeakPassword, format, args...)
}

// WrongRoomKeysVersion makes M_WRONG_ROOM_KEYS_VERSION (403): the key backup has another version; current_version says which.
func WrongRoomKeysVersion(format string, args ...any) *Error {
	return New(http.StatusForbidden, CodeWrongRoomKeysVersion, format, args...)
}

// UnknownPos makes M_UNKNOWN_POS (400): the position of a sliding sync connection is not known (MSC4186).
func UnknownPos(format string, args ...any) *Error {
	return New(http.StatusBadRequest, CodeUnknownPos, format, args...)
}

// TryAgain makes M_UNKNOWN (503) for what another try in a second, perhaps by
// another server behind the same balancer, may do.
func TryAgain(message string) *Error {
	e := New(http.StatusServiceUnavailable, CodeUnknown, "%s", message)
	e.RetryAfter = time.Second
	return e
}
