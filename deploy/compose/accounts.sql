-- The accounts of the trial, made before there is a table; sql/schema/grants.md has them as narrow as they can be.
CREATE DATABASE shop;
CREATE DATABASE stock;
CREATE USER 'migrate'@'%' IDENTIFIED BY 'relay-for-trial';
GRANT CREATE, ALTER, INDEX, REFERENCES, SELECT, INSERT ON shop.* TO 'migrate'@'%';
GRANT CREATE, ALTER, INDEX, REFERENCES, SELECT, INSERT ON stock.* TO 'migrate'@'%';
CREATE USER 'relay'@'%' IDENTIFIED BY 'relay-for-trial';
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO 'relay'@'%';
CREATE USER 'inbox'@'%' IDENTIFIED BY 'relay-for-trial';
GRANT SELECT, INSERT, UPDATE, DELETE ON stock.* TO 'inbox'@'%';
-- The two services: what they are for is theirs.
CREATE USER 'shop'@'%' IDENTIFIED BY 'shop-for-trial';
GRANT ALL ON shop.* TO 'shop'@'%';
CREATE USER 'stock'@'%' IDENTIFIED BY 'stock-for-trial';
GRANT ALL ON stock.* TO 'stock'@'%';
