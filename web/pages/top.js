// What stands above every page. It runs where its element is, while the page is read: nothing moves
// when it is there, and there is one of it.

(() => {
  const links = [
    ["/", "Live"],
    ["/publish", "Publish"],
    ["/rooms", "Rooms"],
    ["/network", "Network"],
    ["/wallet", "Wallet"],
  ];
  const header = document.createElement("header");
  header.className = "top";
  const brand = document.createElement("a");
  brand.className = "brand";
  brand.href = "/";
  brand.setAttribute("aria-label", "Sutantra, home");
  const icon = document.createElement("img");
  [icon.src, icon.alt, icon.width, icon.height] = ["/icon.svg", "", 28, 28];
  const name = document.createElement("span");
  name.textContent = "Sutantra";
  brand.append(icon, name);
  const nav = document.createElement("nav");
  nav.setAttribute("aria-label", "Pages");
  for (const [address = "/", label = ""] of links) {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = label;
    const here = location.pathname.replace(/(.)\/$/, "$1");
    if (here === address || (address !== "/" && here.startsWith(`${address}/`))) link.setAttribute("aria-current", "page");
    nav.append(link);
  }
  header.append(brand, nav);
  document.currentScript?.replaceWith(header);
})();
