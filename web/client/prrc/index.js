// What applications on a room need: channel, agreement, memory, insights, announcements.

export { Announcements, LearningRoom, RoomFeed } from "./feed.js";
export { CoherentCommitProtocol, CommitError } from "./commit.js";
export { GlobalMemoryField } from "./memory.js";
export { KIND, PRRCChannel, isEnvelope } from "./channel.js";
export { RoomApplication } from "./application.js";
export { checkedCertificate, majority } from "./ballot.js";
