package mxerr

// The errcodes. Each says what it stands for; the constructor of the same name gives the usual status.
//
// Spec: client-server-api#common-error-codes, client-server-api#other-error-codes
const (
	// CodeAppserviceLoginUnsupported: the server has no legacy login that an application service could use.
	CodeAppserviceLoginUnsupported = "M_APPSERVICE_LOGIN_UNSUPPORTED"
	// CodeBadAlias: an alias of m.room.canonical_alias does not point to the room.
	CodeBadAlias = "M_BAD_ALIAS"
	// CodeBadJSON: valid JSON, but a key is missing or has a wrong value.
	CodeBadJSON = "M_BAD_JSON"
	// CodeBadState: the change of state can't be made, as in unbanning who is not banned.
	CodeBadState = "M_BAD_STATE"
	// CodeBadStatus: the application service answered a ping with a status other than 200.
	CodeBadStatus = "M_BAD_STATUS"
	// CodeCannotLeaveServerNoticeRoom: the invite to the server notices room can't be rejected.
	CodeCannotLeaveServerNoticeRoom = "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"
	// CodeCannotOverwriteMedia: the media ID has content already.
	CodeCannotOverwriteMedia = "M_CANNOT_OVERWRITE_MEDIA"
	// CodeCaptchaInvalid: the captcha does not match.
	CodeCaptchaInvalid = "M_CAPTCHA_INVALID"
	// CodeCaptchaNeeded: a captcha is required.
	CodeCaptchaNeeded = "M_CAPTCHA_NEEDED"
	// CodeConnectionFailed: the application service could not be reached.
	CodeConnectionFailed = "M_CONNECTION_FAILED"
	// CodeConnectionTimeout: the application service did not answer in time.
	CodeConnectionTimeout = "M_CONNECTION_TIMEOUT"
	// CodeDestinationRejected: no message can be delivered to the country or region (identity service).
	CodeDestinationRejected = "M_DESTINATION_REJECTED"
	// CodeDuplicateAnnotation: the sender has annotated this event with this key already.
	CodeDuplicateAnnotation = "M_DUPLICATE_ANNOTATION"
	// CodeEmailSendError: a validation mail could not be sent (identity service).
	CodeEmailSendError = "M_EMAIL_SEND_ERROR"
	// CodeExclusive: the name belongs to an application service, or is outside of the caller's namespaces.
	CodeExclusive = "M_EXCLUSIVE"
	// CodeForbidden: access is not permitted.
	CodeForbidden = "M_FORBIDDEN"
	// CodeGuestAccessForbidden: guests are not permitted here.
	CodeGuestAccessForbidden = "M_GUEST_ACCESS_FORBIDDEN"
	// CodeIncompatibleRoomVersion: the room has a version that one side does not support; room_version says which.
	CodeIncompatibleRoomVersion = "M_INCOMPATIBLE_ROOM_VERSION"
	// CodeInvalidAddress: the third-party address is not valid (identity service).
	CodeInvalidAddress = "M_INVALID_ADDRESS"
	// CodeInvalidEmail: the email address is not valid (identity service).
	CodeInvalidEmail = "M_INVALID_EMAIL"
	// CodeInvalidParam: a parameter has a wrong value.
	CodeInvalidParam = "M_INVALID_PARAM"
	// CodeInvalidPepper: the lookup pepper is unknown (identity service).
	CodeInvalidPepper = "M_INVALID_PEPPER"
	// CodeInvalidRoomState: the initial state given to createRoom is not valid.
	CodeInvalidRoomState = "M_INVALID_ROOM_STATE"
	// CodeInvalidSignature: an uploaded signature is not valid.
	CodeInvalidSignature = "M_INVALID_SIGNATURE"
	// CodeInvalidUsername: the user name is not valid.
	CodeInvalidUsername = "M_INVALID_USERNAME"
	// CodeInviteBlocked: the user takes no invites from the sender.
	CodeInviteBlocked = "M_INVITE_BLOCKED"
	// CodeKeyTooLarge: a profile key is longer than 255 bytes.
	CodeKeyTooLarge = "M_KEY_TOO_LARGE"
	// CodeLimitExceeded: too many requests; wait and try again.
	CodeLimitExceeded = "M_LIMIT_EXCEEDED"
	// CodeMissingParam: a required parameter is missing.
	CodeMissingParam = "M_MISSING_PARAM"
	// CodeMissingParams: required parameters are missing (identity service).
	CodeMissingParams = "M_MISSING_PARAMS"
	// CodeMissingToken: the request has no access token.
	CodeMissingToken = "M_MISSING_TOKEN"
	// CodeNotFound: nothing is there.
	CodeNotFound = "M_NOT_FOUND"
	// CodeNotJSON: the request is no valid JSON.
	CodeNotJSON = "M_NOT_JSON"
	// CodeNotYetUploaded: the media ID has no content yet.
	CodeNotYetUploaded = "M_NOT_YET_UPLOADED"
	// CodeNoValidSession: no session fits the parameters.
	CodeNoValidSession = "M_NO_VALID_SESSION"
	// CodeProfileTooLarge: the profile would be larger than 64 KiB.
	CodeProfileTooLarge = "M_PROFILE_TOO_LARGE"
	// CodeResourceLimitExceeded: a limit of the server is reached; admin_contact says whom to ask.
	CodeResourceLimitExceeded = "M_RESOURCE_LIMIT_EXCEEDED"
	// CodeRoomInUse: the room alias is taken.
	CodeRoomInUse = "M_ROOM_IN_USE"
	// CodeSendError: a notification could not be sent (identity service).
	CodeSendError = "M_SEND_ERROR"
	// CodeServerNotTrusted: the third-party server is not trusted.
	CodeServerNotTrusted = "M_SERVER_NOT_TRUSTED"
	// CodeSessionExpired: the session has expired.
	CodeSessionExpired = "M_SESSION_EXPIRED"
	// CodeSessionNotValidated: the session has not been validated.
	CodeSessionNotValidated = "M_SESSION_NOT_VALIDATED"
	// CodeTermsNotSigned: terms must be accepted first.
	CodeTermsNotSigned = "M_TERMS_NOT_SIGNED"
	// CodeThreepidAuthFailed: the third-party identifier could not be authenticated.
	CodeThreepidAuthFailed = "M_THREEPID_AUTH_FAILED"
	// CodeThreepidDenied: the third-party identifier is not permitted.
	CodeThreepidDenied = "M_THREEPID_DENIED"
	// CodeThreepidInUse: the third-party identifier is taken.
	CodeThreepidInUse = "M_THREEPID_IN_USE"
	// CodeThreepidMediumNotSupported: identifiers of this medium can't be added.
	CodeThreepidMediumNotSupported = "M_THREEPID_MEDIUM_NOT_SUPPORTED"
	// CodeThreepidNotFound: the third-party identifier is not known.
	CodeThreepidNotFound = "M_THREEPID_NOT_FOUND"
	// CodeTokenIncorrect: the token that the user typed is wrong.
	CodeTokenIncorrect = "M_TOKEN_INCORRECT"
	// CodeTooLarge: the request or a thing in it is too large.
	CodeTooLarge = "M_TOO_LARGE"
	// CodeUnableToAuthoriseJoin: the server can't check the conditions of a restricted room.
	CodeUnableToAuthoriseJoin = "M_UNABLE_TO_AUTHORISE_JOIN"
	// CodeUnableToGrantJoin: another server should be asked to let the user into a restricted room.
	CodeUnableToGrantJoin = "M_UNABLE_TO_GRANT_JOIN"
	// CodeUnauthorized: the request was not correctly authorised.
	CodeUnauthorized = "M_UNAUTHORIZED"
	// CodeUnknown: an error without a name of its own.
	CodeUnknown = "M_UNKNOWN"
	// CodeUnknownDevice: the device does not belong to the user that the application service asserts.
	CodeUnknownDevice = "M_UNKNOWN_DEVICE"
	// CodeUnknownToken: the access or refresh token is not known.
	CodeUnknownToken = "M_UNKNOWN_TOKEN"
	// CodeUnrecognized: no such endpoint (404), or not with this method (405).
	CodeUnrecognized = "M_UNRECOGNIZED"
	// CodeUnsupportedRoomVersion: the room version is not supported.
	CodeUnsupportedRoomVersion = "M_UNSUPPORTED_ROOM_VERSION"
	// CodeURLNotSet: the application service has no URL.
	CodeURLNotSet = "M_URL_NOT_SET"
	// CodeUserDeactivated: the account is deactivated.
	CodeUserDeactivated = "M_USER_DEACTIVATED"
	// CodeUserInUse: the user name is taken.
	CodeUserInUse = "M_USER_IN_USE"
	// CodeUserLimitExceeded: a limit of the account is reached; info_uri says more.
	CodeUserLimitExceeded = "M_USER_LIMIT_EXCEEDED"
	// CodeUserLocked: the account is locked.
	CodeUserLocked = "M_USER_LOCKED"
	// CodeUserSuspended: the account is suspended.
	CodeUserSuspended = "M_USER_SUSPENDED"
	// CodeWeakPassword: the password is too weak.
	CodeWeakPassword = "M_WEAK_PASSWORD"
	// CodeWrongRoomKeysVersion: the key backup has another version; current_version says which.
	CodeWrongRoomKeysVersion = "M_WRONG_ROOM_KEYS_VERSION"
	// CodeUnknownPos: the position of a sliding sync connection is not known (MSC4186).
	CodeUnknownPos = "M_UNKNOWN_POS"
)
